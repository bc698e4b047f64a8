;; Memory: 0 to 64 KiB tables and texts, 64 KiB to 1 MiB the kernels' own, 1 MiB and 64 KiB of it the generated functions'.
(memory (export "memory") 32)
(global $seed (mut i32) (i32.const 1))

;; Xorshift.
(func $random (result i32)
  (local $x i32)
  (local.set $x (global.get $seed))
  (local.set $x (i32.xor (local.get $x) (i32.shl (local.get $x) (i32.const 13))))
  (local.set $x (i32.xor (local.get $x) (i32.shr_u (local.get $x) (i32.const 17))))
  (local.set $x (i32.xor (local.get $x) (i32.shl (local.get $x) (i32.const 5))))
  (global.set $seed (local.get $x))
  (local.get $x))

;; One step of the digest that every kernel returns.
(func $mix (param $digest i64) (param $word i64) (result i64)
  (i64.rotl
    (i64.mul (i64.xor (local.get $digest) (local.get $word)) (i64.const 0x9E3779B97F4A7C15))
    (i64.const 29)))

(func $fill (param $at i32) (param $words i32) (param $seed i32)
  (global.set $seed (local.get $seed))
  (block $done
    (loop $next
      (br_if $done (i32.eqz (local.get $words)))
      (i32.store (local.get $at) (call $random))
      (local.set $at (i32.add (local.get $at) (i32.const 4)))
      (local.set $words (i32.sub (local.get $words) (i32.const 1)))
      (br $next))))

(func $mix_words (param $digest i64) (param $at i32) (param $words i32) (result i64)
  (block $done
    (loop $next
      (br_if $done (i32.eqz (local.get $words)))
      (local.set $digest (call $mix (local.get $digest) (i64.load32_u (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 4)))
      (local.set $words (i32.sub (local.get $words) (i32.const 1)))
      (br $next)))
  (local.get $digest))
