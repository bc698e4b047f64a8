;; The same numbers by quicksort and by heapsort, as signed words at 64 KiB.
(func $swap (param $a i32) (param $b i32)
  (local $kept i32)
  (local.set $kept (i32.load (local.get $a)))
  (i32.store (local.get $a) (i32.load (local.get $b)))
  (i32.store (local.get $b) (local.get $kept)))

(func $insertion_sort (param $first i32) (param $last i32)
  (local $at i32) (local $hole i32) (local $value i32)
  (local.set $at (i32.add (local.get $first) (i32.const 4)))
  (block $done
    (loop $next
      (br_if $done (i32.gt_u (local.get $at) (local.get $last)))
      (local.set $value (i32.load (local.get $at)))
      (local.set $hole (local.get $at))
      (block $placed
        (loop $shift
          (br_if $placed (i32.le_u (local.get $hole) (local.get $first)))
          (br_if $placed
            (i32.le_s (i32.load (i32.sub (local.get $hole) (i32.const 4))) (local.get $value)))
          (i32.store (local.get $hole) (i32.load (i32.sub (local.get $hole) (i32.const 4))))
          (local.set $hole (i32.sub (local.get $hole) (i32.const 4)))
          (br $shift)))
      (i32.store (local.get $hole) (local.get $value))
      (local.set $at (i32.add (local.get $at) (i32.const 4)))
      (br $next))))

;; Hoare's partition; both ends belong to the range.
(func $quicksort (param $first i32) (param $last i32)
  (local $left i32) (local $right i32) (local $pivot i32)
  (if (i32.lt_s (i32.sub (local.get $last) (local.get $first)) (i32.const 64))
    (then
      (call $insertion_sort (local.get $first) (local.get $last))
      (return)))
  (local.set $pivot
    (i32.load
      (i32.and
        (i32.add (local.get $first) (i32.shr_u (i32.sub (local.get $last) (local.get $first)) (i32.const 1)))
        (i32.const -4))))
  (local.set $left (local.get $first))
  (local.set $right (local.get $last))
  (block $met
    (loop $again
      (loop $up
        (if (i32.lt_s (i32.load (local.get $left)) (local.get $pivot))
          (then
            (local.set $left (i32.add (local.get $left) (i32.const 4)))
            (br $up))))
      (loop $down
        (if (i32.gt_s (i32.load (local.get $right)) (local.get $pivot))
          (then
            (local.set $right (i32.sub (local.get $right) (i32.const 4)))
            (br $down))))
      (br_if $met (i32.gt_u (local.get $left) (local.get $right)))
      (call $swap (local.get $left) (local.get $right))
      (local.set $left (i32.add (local.get $left) (i32.const 4)))
      (local.set $right (i32.sub (local.get $right) (i32.const 4)))
      (br_if $again (i32.le_u (local.get $left) (local.get $right)))))
  (if (i32.lt_u (local.get $first) (local.get $right))
    (then (call $quicksort (local.get $first) (local.get $right))))
  (if (i32.lt_u (local.get $left) (local.get $last))
    (then (call $quicksort (local.get $left) (local.get $last)))))

(func $sift_down (param $base i32) (param $at i32) (param $count i32)
  (local $child i32)
  (block $done
    (loop $again
      (local.set $child (i32.add (i32.shl (local.get $at) (i32.const 1)) (i32.const 1)))
      (br_if $done (i32.ge_u (local.get $child) (local.get $count)))
      (if (i32.lt_u (i32.add (local.get $child) (i32.const 1)) (local.get $count))
        (then
          (if (i32.lt_s
                (i32.load (i32.add (local.get $base) (i32.shl (local.get $child) (i32.const 2))))
                (i32.load offset=4 (i32.add (local.get $base) (i32.shl (local.get $child) (i32.const 2)))))
            (then (local.set $child (i32.add (local.get $child) (i32.const 1)))))))
      (br_if $done
        (i32.ge_s
          (i32.load (i32.add (local.get $base) (i32.shl (local.get $at) (i32.const 2))))
          (i32.load (i32.add (local.get $base) (i32.shl (local.get $child) (i32.const 2))))))
      (call $swap
        (i32.add (local.get $base) (i32.shl (local.get $at) (i32.const 2)))
        (i32.add (local.get $base) (i32.shl (local.get $child) (i32.const 2))))
      (local.set $at (local.get $child))
      (br $again))))

(func $heapsort (param $base i32) (param $count i32)
  (local $at i32)
  (local.set $at (i32.shr_u (local.get $count) (i32.const 1)))
  (block $built
    (loop $build
      (br_if $built (i32.eqz (local.get $at)))
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (call $sift_down (local.get $base) (local.get $at) (local.get $count))
      (br $build)))
  (block $done
    (loop $take
      (br_if $done (i32.le_u (local.get $count) (i32.const 1)))
      (local.set $count (i32.sub (local.get $count) (i32.const 1)))
      (call $swap (local.get $base) (i32.add (local.get $base) (i32.shl (local.get $count) (i32.const 2))))
      (call $sift_down (local.get $base) (i32.const 0) (local.get $count))
      (br $take))))

(func (export "sorting") (param $count i32) (result i64)
  (local $digest i64)
  (call $fill (i32.const 0x10000) (local.get $count) (i32.const 0x5EED))
  (call $quicksort
    (i32.const 0x10000)
    (i32.add (i32.const 0xFFFC) (i32.shl (local.get $count) (i32.const 2))))
  (local.set $digest (call $mix_words (i64.const 1) (i32.const 0x10000) (local.get $count)))
  (call $fill (i32.const 0x10000) (local.get $count) (i32.const 0x5EED))
  (call $heapsort (i32.const 0x10000) (local.get $count))
  (call $mix_words (local.get $digest) (i32.const 0x10000) (local.get $count)))
