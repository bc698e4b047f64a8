;; A parser of JSON by recursive descent, over the text at 0x4000 whose length is at 0x3FFC. What it finds goes into a digest;
;; text that is wrong traps.
(global $at (mut i32) (i32.const 0))
(global $found (mut i64) (i64.const 0))

(func $peek (result i32)
  (if (i32.ge_u (global.get $at) (i32.load (i32.const 0x3FFC)))
    (then (return (i32.const 0))))
  (i32.load8_u offset=0x4000 (global.get $at)))

(func $advance (global.set $at (i32.add (global.get $at) (i32.const 1))))

(func $note (param $word i64) (global.set $found (call $mix (global.get $found) (local.get $word))))

(func $skip_space
  (loop $next
    (if (i32.and (i32.le_u (call $peek) (i32.const 32)) (i32.ne (call $peek) (i32.const 0)))
      (then
        (call $advance)
        (br $next)))))

(func $expect (param $letter i32)
  (if (i32.ne (call $peek) (local.get $letter))
    (then unreachable))
  (call $advance))

(func $is_digit (param $letter i32) (result i32)
  (i32.lt_u (i32.sub (local.get $letter) (i32.const 48)) (i32.const 10)))

(func $parse_digits (param $value i64) (result i64)
  (if (i32.eqz (call $is_digit (call $peek)))
    (then unreachable))
  (loop $next
    (local.set $value
      (i64.add
        (i64.mul (local.get $value) (i64.const 10))
        (i64.extend_i32_u (i32.sub (call $peek) (i32.const 48)))))
    (call $advance)
    (br_if $next (call $is_digit (call $peek))))
  (local.get $value))

;; A fraction is noted apart, with its leading zeros.
(func $parse_number
  (local $negative i32) (local $value i64)
  (if (i32.eq (call $peek) (i32.const 45))
    (then
      (local.set $negative (i32.const 1))
      (call $advance)))
  (local.set $value (call $parse_digits (i64.const 0)))
  (if (local.get $negative)
    (then (local.set $value (i64.sub (i64.const 0) (local.get $value)))))
  (call $note (local.get $value))
  (if (i32.eq (call $peek) (i32.const 46))
    (then
      (call $advance)
      (call $note (call $parse_digits (i64.const 1))))))

(func $parse_string
  (local $letter i32) (local $hash i64)
  (local.set $hash (i64.const 0xcbf29ce484222325))
  (call $expect (i32.const 34))
  (loop $next
    (local.set $letter (call $peek))
    (if (i32.eqz (local.get $letter))
      (then unreachable))
    (call $advance)
    (if (i32.ne (local.get $letter) (i32.const 34))
      (then
        (if (i32.eq (local.get $letter) (i32.const 92))
          (then
            (local.set $letter (i32.or (call $peek) (i32.const 256)))
            (call $advance)))
        (local.set $hash
          (i64.mul
            (i64.xor (local.get $hash) (i64.extend_i32_u (local.get $letter)))
            (i64.const 0x100000001b3)))
        (br $next))))
  (call $note (local.get $hash)))

(func $parse_word
  (local $hash i64)
  (loop $next
    (if (i32.lt_u (i32.sub (call $peek) (i32.const 97)) (i32.const 26))
      (then
        (local.set $hash (i64.add (i64.mul (local.get $hash) (i64.const 31)) (i64.extend_i32_u (call $peek))))
        (call $advance)
        (br $next))))
  ;; true, false, null
  (if (i64.ne (local.get $hash) (i64.const 3569038))
    (then
      (if (i64.ne (local.get $hash) (i64.const 97196323))
        (then
          (if (i64.ne (local.get $hash) (i64.const 3392903))
            (then unreachable))))))
  (call $note (local.get $hash)))

;; The elements of an array or the members of an object, up to the closing bracket.
(func $parse_list (param $depth i32) (param $close i32)
  (local $count i64)
  (call $advance)
  (call $skip_space)
  (block $closed
    (br_if $closed (i32.eq (call $peek) (local.get $close)))
    (loop $next
      (if (i32.eq (local.get $close) (i32.const 125))
        (then
          (call $skip_space)
          (call $parse_string)
          (call $skip_space)
          (call $expect (i32.const 58))))
      (call $parse_value (i32.add (local.get $depth) (i32.const 1)))
      (local.set $count (i64.add (local.get $count) (i64.const 1)))
      (call $skip_space)
      (if (i32.eq (call $peek) (i32.const 44))
        (then
          (call $advance)
          (br $next)))))
  (call $expect (local.get $close))
  (call $note (i64.add (i64.mul (local.get $count) (i64.const 100)) (i64.extend_i32_u (local.get $depth)))))

(func $parse_value (param $depth i32)
  (local $letter i32)
  (call $skip_space)
  (local.set $letter (call $peek))
  (if (i32.eq (local.get $letter) (i32.const 91))
    (then
      (call $parse_list (local.get $depth) (i32.const 93))
      (return)))
  (if (i32.eq (local.get $letter) (i32.const 123))
    (then
      (call $parse_list (local.get $depth) (i32.const 125))
      (return)))
  (if (i32.eq (local.get $letter) (i32.const 34))
    (then
      (call $parse_string)
      (return)))
  (if (i32.or (i32.eq (local.get $letter) (i32.const 45)) (call $is_digit (local.get $letter)))
    (then
      (call $parse_number)
      (return)))
  (call $parse_word))

(func (export "json") (param $times i32) (result i64)
  (global.set $found (i64.const 10))
  (loop $again
    (global.set $at (i32.const 0))
    (call $parse_value (i32.const 0))
    (call $skip_space)
    (if (call $peek)
      (then unreachable))
    (local.set $times (i32.sub (local.get $times) (i32.const 1)))
    (br_if $again (local.get $times)))
  (global.get $found))
