;; SHA-256 of random bytes, and their CRC-32 by bits and by a table, chosen through the function table.
;; The round constants lie at 0x100, the state at 0x300, the schedule at 0x400, CRC's table at 0x800.
(func $sigma (param $x i32) (param $a i32) (param $b i32) (param $c i32) (result i32)
  (i32.xor
    (i32.xor (i32.rotr (local.get $x) (local.get $a)) (i32.rotr (local.get $x) (local.get $b)))
    (i32.rotr (local.get $x) (local.get $c))))

(func $big_endian (param $x i32) (result i32)
  (i32.or
    (i32.and (i32.rotl (local.get $x) (i32.const 8)) (i32.const 0x00FF00FF))
    (i32.and (i32.rotr (local.get $x) (i32.const 8)) (i32.const 0xFF00FF00))))

(func $schedule (param $block i32)
  (local $at i32) (local $s0 i32) (local $s1 i32) (local $x i32)
  (loop $copy
    (i32.store offset=0x400 (local.get $at)
      (call $big_endian (i32.load (i32.add (local.get $block) (local.get $at)))))
    (local.set $at (i32.add (local.get $at) (i32.const 4)))
    (br_if $copy (i32.lt_u (local.get $at) (i32.const 64))))
  (loop $extend
    (local.set $x (i32.load offset=0x3C4 (local.get $at)))
    (local.set $s0
      (i32.xor
        (i32.xor (i32.rotr (local.get $x) (i32.const 7)) (i32.rotr (local.get $x) (i32.const 18)))
        (i32.shr_u (local.get $x) (i32.const 3))))
    (local.set $x (i32.load offset=0x3F8 (local.get $at)))
    (local.set $s1
      (i32.xor
        (i32.xor (i32.rotr (local.get $x) (i32.const 17)) (i32.rotr (local.get $x) (i32.const 19)))
        (i32.shr_u (local.get $x) (i32.const 10))))
    (i32.store offset=0x400 (local.get $at)
      (i32.add
        (i32.add (i32.load offset=0x3C0 (local.get $at)) (local.get $s0))
        (i32.add (i32.load offset=0x3E4 (local.get $at)) (local.get $s1))))
    (local.set $at (i32.add (local.get $at) (i32.const 4)))
    (br_if $extend (i32.lt_u (local.get $at) (i32.const 256)))))

(func $compress (param $block i32)
  (local $a i32) (local $b i32) (local $c i32) (local $d i32)
  (local $e i32) (local $f i32) (local $g i32) (local $h i32)
  (local $at i32) (local $t1 i32) (local $t2 i32)
  (call $schedule (local.get $block))
  (local.set $a (i32.load (i32.const 0x300)))
  (local.set $b (i32.load (i32.const 0x304)))
  (local.set $c (i32.load (i32.const 0x308)))
  (local.set $d (i32.load (i32.const 0x30C)))
  (local.set $e (i32.load (i32.const 0x310)))
  (local.set $f (i32.load (i32.const 0x314)))
  (local.set $g (i32.load (i32.const 0x318)))
  (local.set $h (i32.load (i32.const 0x31C)))
  (loop $round
    (local.set $t1
      (i32.add
        (i32.add
          (i32.add (local.get $h) (call $sigma (local.get $e) (i32.const 6) (i32.const 11) (i32.const 25)))
          (i32.xor (i32.and (local.get $e) (local.get $f)) (i32.and (i32.xor (local.get $e) (i32.const -1)) (local.get $g))))
        (i32.add (i32.load offset=0x100 (local.get $at)) (i32.load offset=0x400 (local.get $at)))))
    (local.set $t2
      (i32.add
        (call $sigma (local.get $a) (i32.const 2) (i32.const 13) (i32.const 22))
        (i32.xor
          (i32.xor (i32.and (local.get $a) (local.get $b)) (i32.and (local.get $a) (local.get $c)))
          (i32.and (local.get $b) (local.get $c)))))
    (local.set $h (local.get $g))
    (local.set $g (local.get $f))
    (local.set $f (local.get $e))
    (local.set $e (i32.add (local.get $d) (local.get $t1)))
    (local.set $d (local.get $c))
    (local.set $c (local.get $b))
    (local.set $b (local.get $a))
    (local.set $a (i32.add (local.get $t1) (local.get $t2)))
    (local.set $at (i32.add (local.get $at) (i32.const 4)))
    (br_if $round (i32.lt_u (local.get $at) (i32.const 256))))
  (i32.store (i32.const 0x300) (i32.add (i32.load (i32.const 0x300)) (local.get $a)))
  (i32.store (i32.const 0x304) (i32.add (i32.load (i32.const 0x304)) (local.get $b)))
  (i32.store (i32.const 0x308) (i32.add (i32.load (i32.const 0x308)) (local.get $c)))
  (i32.store (i32.const 0x30C) (i32.add (i32.load (i32.const 0x30C)) (local.get $d)))
  (i32.store (i32.const 0x310) (i32.add (i32.load (i32.const 0x310)) (local.get $e)))
  (i32.store (i32.const 0x314) (i32.add (i32.load (i32.const 0x314)) (local.get $f)))
  (i32.store (i32.const 0x318) (i32.add (i32.load (i32.const 0x318)) (local.get $g)))
  (i32.store (i32.const 0x31C) (i32.add (i32.load (i32.const 0x31C)) (local.get $h))))

;; The message is at 64 KiB and gets its padding there.
(func (export "sha256") (param $bytes i32) (result i64)
  (local $at i32) (local $end i32)
  (call $fill (i32.const 0x10000) (i32.shr_u (i32.add (local.get $bytes) (i32.const 3)) (i32.const 2)) (i32.const 0x5A256))
  (i32.store (i32.const 0x300) (i32.const 0x6A09E667))
  (i32.store (i32.const 0x304) (i32.const 0xBB67AE85))
  (i32.store (i32.const 0x308) (i32.const 0x3C6EF372))
  (i32.store (i32.const 0x30C) (i32.const 0xA54FF53A))
  (i32.store (i32.const 0x310) (i32.const 0x510E527F))
  (i32.store (i32.const 0x314) (i32.const 0x9B05688C))
  (i32.store (i32.const 0x318) (i32.const 0x1F83D9AB))
  (i32.store (i32.const 0x31C) (i32.const 0x5BE0CD19))
  (local.set $end (i32.and (i32.add (local.get $bytes) (i32.const 72)) (i32.const -64)))
  (memory.fill
    (i32.add (i32.const 0x10000) (local.get $bytes))
    (i32.const 0)
    (i32.sub (local.get $end) (local.get $bytes)))
  (i32.store8 offset=0x10000 (local.get $bytes) (i32.const 0x80))
  (i32.store offset=0xFFFC (local.get $end) (call $big_endian (i32.shl (local.get $bytes) (i32.const 3))))
  (loop $block
    (call $compress (i32.add (i32.const 0x10000) (local.get $at)))
    (local.set $at (i32.add (local.get $at) (i32.const 64)))
    (br_if $block (i32.lt_u (local.get $at) (local.get $end))))
  (call $mix_words (i64.const 2) (i32.const 0x300) (i32.const 8)))

(func $crc_by_bits (param $crc i32) (param $byte i32) (result i32)
  (local $bit i32)
  (local.set $crc (i32.xor (local.get $crc) (local.get $byte)))
  (loop $next
    (local.set $crc
      (i32.xor
        (i32.shr_u (local.get $crc) (i32.const 1))
        (select (i32.const 0xEDB88320) (i32.const 0) (i32.and (local.get $crc) (i32.const 1)))))
    (local.set $bit (i32.add (local.get $bit) (i32.const 1)))
    (br_if $next (i32.lt_u (local.get $bit) (i32.const 8))))
  (local.get $crc))

(func $crc_by_table (param $crc i32) (param $byte i32) (result i32)
  (i32.xor
    (i32.shr_u (local.get $crc) (i32.const 8))
    (i32.load offset=0x800
      (i32.shl (i32.and (i32.xor (local.get $crc) (local.get $byte)) (i32.const 255)) (i32.const 2)))))

(type $crc_step (func (param i32 i32) (result i32)))
(table $crc_steps funcref (elem $crc_by_bits $crc_by_table))

(func (export "crc32") (param $bytes i32) (result i64)
  (local $way i32) (local $at i32) (local $crc i32) (local $digest i64)
  (call $fill (i32.const 0x10000) (i32.shr_u (i32.add (local.get $bytes) (i32.const 3)) (i32.const 2)) (i32.const 0xC3C))
  (loop $row
    (i32.store offset=0x800
      (i32.shl (local.get $at) (i32.const 2))
      (call $crc_by_bits (i32.const 0) (local.get $at)))
    (local.set $at (i32.add (local.get $at) (i32.const 1)))
    (br_if $row (i32.lt_u (local.get $at) (i32.const 256))))
  (local.set $digest (i64.const 3))
  (loop $ways
    (local.set $at (i32.const 0))
    (local.set $crc (i32.const -1))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $at) (local.get $bytes)))
        (local.set $crc
          (call_indirect $crc_steps (type $crc_step)
            (local.get $crc)
            (i32.load8_u offset=0x10000 (local.get $at))
            (local.get $way)))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next)))
    (local.set $digest
      (call $mix (local.get $digest) (i64.extend_i32_u (i32.xor (local.get $crc) (i32.const -1)))))
    (local.set $way (i32.add (local.get $way) (i32.const 1)))
    (br_if $ways (i32.lt_u (local.get $way) (i32.const 2))))
  (local.get $digest))
