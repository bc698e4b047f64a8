;; Primes below a bound, a byte for each number at 64 KiB.
(func (export "primes") (param $bound i32) (result i64)
  (local $number i32) (local $multiple i32) (local $digest i64)
  (memory.fill (i32.const 0x10000) (i32.const 1) (local.get $bound))
  (local.set $digest (i64.const 7))
  (local.set $number (i32.const 2))
  (block $done
    (loop $next
      (br_if $done (i32.ge_u (local.get $number) (local.get $bound)))
      (if (i32.load8_u offset=0x10000 (local.get $number))
        (then
          (local.set $digest (call $mix (local.get $digest) (i64.extend_i32_u (local.get $number))))
          (local.set $multiple (i32.mul (local.get $number) (local.get $number)))
          (block $struck
            (loop $strike
              (br_if $struck (i32.ge_u (local.get $multiple) (local.get $bound)))
              (i32.store8 offset=0x10000 (local.get $multiple) (i32.const 0))
              (local.set $multiple (i32.add (local.get $multiple) (local.get $number)))
              (br $strike)))))
      (local.set $number (i32.add (local.get $number) (i32.const 1)))
      (br $next)))
  (local.get $digest))

;; Conway's game on a torus of 64 x 64 cells, a byte each, at 64 KiB and 128 KiB in turn.
(func $cell (param $board i32) (param $row i32) (param $column i32) (result i32)
  (i32.load8_u
    (i32.add
      (local.get $board)
      (i32.or
        (i32.shl (i32.and (local.get $row) (i32.const 63)) (i32.const 6))
        (i32.and (local.get $column) (i32.const 63))))))

(func $neighbours (param $board i32) (param $row i32) (param $column i32) (result i32)
  (local $dr i32) (local $dc i32) (local $count i32)
  (local.set $dr (i32.const -1))
  (loop $rows
    (local.set $dc (i32.const -1))
    (loop $columns
      (if (i32.or (local.get $dr) (local.get $dc))
        (then
          (local.set $count
            (i32.add
              (local.get $count)
              (call $cell
                (local.get $board)
                (i32.add (local.get $row) (local.get $dr))
                (i32.add (local.get $column) (local.get $dc)))))))
      (local.set $dc (i32.add (local.get $dc) (i32.const 1)))
      (br_if $columns (i32.le_s (local.get $dc) (i32.const 1))))
    (local.set $dr (i32.add (local.get $dr) (i32.const 1)))
    (br_if $rows (i32.le_s (local.get $dr) (i32.const 1))))
  (local.get $count))

(func $generation (param $from i32) (param $to i32)
  (local $row i32) (local $column i32) (local $count i32)
  (loop $rows
    (local.set $column (i32.const 0))
    (loop $columns
      (local.set $count (call $neighbours (local.get $from) (local.get $row) (local.get $column)))
      (i32.store8
        (i32.add (local.get $to) (i32.or (i32.shl (local.get $row) (i32.const 6)) (local.get $column)))
        (i32.or
          (i32.eq (local.get $count) (i32.const 3))
          (i32.and
            (i32.eq (local.get $count) (i32.const 2))
            (call $cell (local.get $from) (local.get $row) (local.get $column)))))
      (local.set $column (i32.add (local.get $column) (i32.const 1)))
      (br_if $columns (i32.lt_u (local.get $column) (i32.const 64))))
    (local.set $row (i32.add (local.get $row) (i32.const 1)))
    (br_if $rows (i32.lt_u (local.get $row) (i32.const 64)))))

(func (export "life") (param $generations i32) (result i64)
  (local $at i32) (local $from i32) (local $to i32)
  (global.set $seed (i32.const 0x11FE))
  (loop $seed_cells
    (i32.store8 offset=0x10000 (local.get $at) (i32.and (i32.shr_u (call $random) (i32.const 9)) (i32.const 1)))
    (local.set $at (i32.add (local.get $at) (i32.const 1)))
    (br_if $seed_cells (i32.lt_u (local.get $at) (i32.const 4096))))
  (local.set $from (i32.const 0x10000))
  (local.set $to (i32.const 0x20000))
  (block $done
    (loop $next
      (br_if $done (i32.eqz (local.get $generations)))
      (call $generation (local.get $from) (local.get $to))
      (local.set $at (local.get $from))
      (local.set $from (local.get $to))
      (local.set $to (local.get $at))
      (local.set $generations (i32.sub (local.get $generations) (i32.const 1)))
      (br $next)))
  (call $mix_words (i64.const 8) (local.get $from) (i32.const 1024)))
