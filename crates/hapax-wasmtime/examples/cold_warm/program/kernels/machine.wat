;; An interpreter: a stack machine whose program is at 0x1000, an operation in a byte, its operand in the next four.
;; Locals are words at 0x2000, the stack grows from 0x2100.
(func $pop_two (param $sp i32) (result i32 i32)
  (i32.load (i32.sub (local.get $sp) (i32.const 8)))
  (i32.load (i32.sub (local.get $sp) (i32.const 4))))

(func (export "machine") (param $input i32) (result i64)
  (local $pc i32) (local $sp i32) (local $a i32) (local $b i32) (local $operand i32) (local $steps i64)
  (local.set $sp (i32.const 0x2100))
  (memory.fill (i32.const 0x2000) (i32.const 0) (i32.const 64))
  (i32.store (i32.const 0x2000) (local.get $input))
  (loop $step
    (local.set $steps (i64.add (local.get $steps) (i64.const 1)))
    (local.set $operand (i32.load offset=0x1001 align=1 (local.get $pc)))
    (block $halt
      (block $not_zero
        (block $jump
          (block $set
            (block $get
              (block $binary
                (block $push
                  (br_table $push $get $set $jump $not_zero $halt $binary
                    (i32.load8_u offset=0x1000 (local.get $pc))))
                ;; push
                (i32.store (local.get $sp) (local.get $operand))
                (local.set $sp (i32.add (local.get $sp) (i32.const 4)))
                (local.set $pc (i32.add (local.get $pc) (i32.const 5)))
                (br $step))
              ;; binary: the operand says which
              (call $pop_two (local.get $sp))
              (local.set $b)
              (local.set $a)
              (local.set $sp (i32.sub (local.get $sp) (i32.const 4)))
              (i32.store (i32.sub (local.get $sp) (i32.const 4))
                (call_indirect $operations (type $operation) (local.get $a) (local.get $b) (local.get $operand)))
              (local.set $pc (i32.add (local.get $pc) (i32.const 5)))
              (br $step))
            ;; get
            (i32.store (local.get $sp) (i32.load offset=0x2000 (i32.shl (local.get $operand) (i32.const 2))))
            (local.set $sp (i32.add (local.get $sp) (i32.const 4)))
            (local.set $pc (i32.add (local.get $pc) (i32.const 5)))
            (br $step))
          ;; set
          (local.set $sp (i32.sub (local.get $sp) (i32.const 4)))
          (i32.store offset=0x2000 (i32.shl (local.get $operand) (i32.const 2)) (i32.load (local.get $sp)))
          (local.set $pc (i32.add (local.get $pc) (i32.const 5)))
          (br $step))
        ;; jump
        (local.set $pc (local.get $operand))
        (br $step))
      ;; jump if not zero
      (local.set $sp (i32.sub (local.get $sp) (i32.const 4)))
      (local.set $pc
        (select (local.get $operand) (i32.add (local.get $pc) (i32.const 5)) (i32.load (local.get $sp))))
      (br $step)))
  (call $mix
    (call $mix (i64.const 9) (local.get $steps))
    (i64.extend_i32_u (i32.load (i32.const 0x2004)))))

(type $operation (func (param i32 i32) (result i32)))
(table $operations funcref (elem $add $subtract $multiply $divide $remainder $less))
(func $add (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
(func $subtract (param i32 i32) (result i32) (i32.sub (local.get 0) (local.get 1)))
(func $multiply (param i32 i32) (result i32) (i32.mul (local.get 0) (local.get 1)))
(func $divide (param i32 i32) (result i32) (i32.div_u (local.get 0) (local.get 1)))
(func $remainder (param i32 i32) (result i32) (i32.rem_u (local.get 0) (local.get 1)))
(func $less (param i32 i32) (result i32) (i32.lt_u (local.get 0) (local.get 1)))
