;; Mandelbrot's set on a square grid: the iterations of each point.
(func $escape (param $re f64) (param $im f64) (result i32)
  (local $x f64) (local $y f64) (local $xx f64) (local $yy f64) (local $count i32)
  (block $out
    (loop $again
      (local.set $xx (f64.mul (local.get $x) (local.get $x)))
      (local.set $yy (f64.mul (local.get $y) (local.get $y)))
      (br_if $out (f64.gt (f64.add (local.get $xx) (local.get $yy)) (f64.const 4)))
      (br_if $out (i32.ge_u (local.get $count) (i32.const 200)))
      (local.set $y (f64.add (f64.mul (f64.mul (f64.const 2) (local.get $x)) (local.get $y)) (local.get $im)))
      (local.set $x (f64.add (f64.sub (local.get $xx) (local.get $yy)) (local.get $re)))
      (local.set $count (i32.add (local.get $count) (i32.const 1)))
      (br $again)))
  (local.get $count))

(func (export "mandelbrot") (param $size i32) (result i64)
  (local $row i32) (local $column i32) (local $digest i64)
  (local.set $digest (i64.const 4))
  (loop $rows
    (local.set $column (i32.const 0))
    (loop $columns
      (local.set $digest
        (call $mix
          (local.get $digest)
          (i64.extend_i32_u
            (call $escape
              (f64.sub
                (f64.div (f64.mul (f64.const 3) (f64.convert_i32_u (local.get $column))) (f64.convert_i32_u (local.get $size)))
                (f64.const 2))
              (f64.sub
                (f64.div (f64.mul (f64.const 2) (f64.convert_i32_u (local.get $row))) (f64.convert_i32_u (local.get $size)))
                (f64.const 1))))))
      (local.set $column (i32.add (local.get $column) (i32.const 1)))
      (br_if $columns (i32.lt_u (local.get $column) (local.get $size))))
    (local.set $row (i32.add (local.get $row) (i32.const 1)))
    (br_if $rows (i32.lt_u (local.get $row) (local.get $size))))
  (local.get $digest))

;; Five bodies of 56 bytes at 64 KiB: position, velocity, mass.
(func $attract (param $a i32) (param $b i32)
  (local $dx f64) (local $dy f64) (local $dz f64) (local $square f64) (local $pull f64) (local $mass f64)
  (local.set $dx (f64.sub (f64.load (local.get $a)) (f64.load (local.get $b))))
  (local.set $dy (f64.sub (f64.load offset=8 (local.get $a)) (f64.load offset=8 (local.get $b))))
  (local.set $dz (f64.sub (f64.load offset=16 (local.get $a)) (f64.load offset=16 (local.get $b))))
  (local.set $square
    (f64.add
      (f64.add (f64.mul (local.get $dx) (local.get $dx)) (f64.mul (local.get $dy) (local.get $dy)))
      (f64.mul (local.get $dz) (local.get $dz))))
  (local.set $pull (f64.div (f64.const 0.01) (f64.mul (local.get $square) (f64.sqrt (local.get $square)))))
  (local.set $mass (f64.mul (f64.load offset=48 (local.get $b)) (local.get $pull)))
  (f64.store offset=24 (local.get $a) (f64.sub (f64.load offset=24 (local.get $a)) (f64.mul (local.get $dx) (local.get $mass))))
  (f64.store offset=32 (local.get $a) (f64.sub (f64.load offset=32 (local.get $a)) (f64.mul (local.get $dy) (local.get $mass))))
  (f64.store offset=40 (local.get $a) (f64.sub (f64.load offset=40 (local.get $a)) (f64.mul (local.get $dz) (local.get $mass))))
  (local.set $mass (f64.mul (f64.load offset=48 (local.get $a)) (local.get $pull)))
  (f64.store offset=24 (local.get $b) (f64.add (f64.load offset=24 (local.get $b)) (f64.mul (local.get $dx) (local.get $mass))))
  (f64.store offset=32 (local.get $b) (f64.add (f64.load offset=32 (local.get $b)) (f64.mul (local.get $dy) (local.get $mass))))
  (f64.store offset=40 (local.get $b) (f64.add (f64.load offset=40 (local.get $b)) (f64.mul (local.get $dz) (local.get $mass)))))

(func $move (param $body i32)
  (local $axis i32)
  (loop $next
    (f64.store (local.get $body)
      (f64.add (f64.load (local.get $body)) (f64.mul (f64.const 0.01) (f64.load offset=24 (local.get $body)))))
    (local.set $body (i32.add (local.get $body) (i32.const 8)))
    (local.set $axis (i32.add (local.get $axis) (i32.const 1)))
    (br_if $next (i32.lt_u (local.get $axis) (i32.const 3)))))

;; Seven numbers for each of the bodies, so that no two of them meet: (index * 37 mod 101) / 16 - 2, the mass positive.
(func $place_bodies
  (local $index i32) (local $value f64)
  (loop $next
    (local.set $value
      (f64.sub
        (f64.div
          (f64.convert_i32_u (i32.rem_u (i32.mul (i32.add (local.get $index) (i32.const 3)) (i32.const 37)) (i32.const 101)))
          (f64.const 16))
        (f64.const 2)))
    (if (i32.eq (i32.rem_u (local.get $index) (i32.const 7)) (i32.const 6))
      (then (local.set $value (f64.add (f64.abs (local.get $value)) (f64.const 0.5)))))
    (f64.store offset=0x10000 (i32.shl (local.get $index) (i32.const 3)) (local.get $value))
    (local.set $index (i32.add (local.get $index) (i32.const 1)))
    (br_if $next (i32.lt_u (local.get $index) (i32.const 35)))))

(func (export "bodies") (param $steps i32) (result i64)
  (local $a i32) (local $b i32)
  (call $place_bodies)
  (block $done
    (loop $step
      (br_if $done (i32.eqz (local.get $steps)))
      (local.set $a (i32.const 0x10000))
      (loop $firsts
        (local.set $b (i32.add (local.get $a) (i32.const 56)))
        (block $last
          (loop $seconds
            (br_if $last (i32.ge_u (local.get $b) (i32.const 0x10118)))
            (call $attract (local.get $a) (local.get $b))
            (local.set $b (i32.add (local.get $b) (i32.const 56)))
            (br $seconds)))
        (local.set $a (i32.add (local.get $a) (i32.const 56)))
        (br_if $firsts (i32.lt_u (local.get $a) (i32.const 0x10118))))
      (local.set $a (i32.const 0x10000))
      (loop $bodies
        (call $move (local.get $a))
        (local.set $a (i32.add (local.get $a) (i32.const 56)))
        (br_if $bodies (i32.lt_u (local.get $a) (i32.const 0x10118))))
      (local.set $steps (i32.sub (local.get $steps) (i32.const 1)))
      (br $step)))
  (call $mix_words (i64.const 5) (i32.const 0x10000) (i32.const 70)))

;; A product of two square matrices, at 64 KiB, 256 KiB and 512 KiB.
(func $dot (param $row i32) (param $column i32) (param $stride i32) (param $count i32) (result f64)
  (local $sum f64)
  (loop $next
    (local.set $sum
      (f64.add (local.get $sum) (f64.mul (f64.load (local.get $row)) (f64.load (local.get $column)))))
    (local.set $row (i32.add (local.get $row) (i32.const 8)))
    (local.set $column (i32.add (local.get $column) (local.get $stride)))
    (local.set $count (i32.sub (local.get $count) (i32.const 1)))
    (br_if $next (local.get $count)))
  (local.get $sum))

(func $fill_floats (param $at i32) (param $count i32)
  (loop $next
    (f64.store (local.get $at) (f64.div (f64.convert_i32_s (call $random)) (f64.const 65536)))
    (local.set $at (i32.add (local.get $at) (i32.const 8)))
    (local.set $count (i32.sub (local.get $count) (i32.const 1)))
    (br_if $next (local.get $count))))

(func (export "matrix") (param $size i32) (result i64)
  (local $row i32) (local $column i32) (local $stride i32) (local $to i32)
  (local.set $stride (i32.shl (local.get $size) (i32.const 3)))
  (local.set $to (i32.const 0x80000))
  (global.set $seed (i32.const 77))
  (call $fill_floats (i32.const 0x10000) (i32.mul (local.get $size) (local.get $size)))
  (call $fill_floats (i32.const 0x40000) (i32.mul (local.get $size) (local.get $size)))
  (loop $rows
    (local.set $column (i32.const 0))
    (loop $columns
      (f64.store (local.get $to)
        (call $dot
          (i32.add (i32.const 0x10000) (i32.mul (local.get $row) (local.get $stride)))
          (i32.add (i32.const 0x40000) (i32.shl (local.get $column) (i32.const 3)))
          (local.get $stride)
          (local.get $size)))
      (local.set $to (i32.add (local.get $to) (i32.const 8)))
      (local.set $column (i32.add (local.get $column) (i32.const 1)))
      (br_if $columns (i32.lt_u (local.get $column) (local.get $size))))
    (local.set $row (i32.add (local.get $row) (i32.const 1)))
    (br_if $rows (i32.lt_u (local.get $row) (local.get $size))))
  (call $mix_words (i64.const 6) (i32.const 0x80000) (i32.shl (i32.mul (local.get $size) (local.get $size)) (i32.const 1))))
