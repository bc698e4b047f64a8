(* What both oracles share: numbers, the digest, the random draws. The Rust side of each is src/golden/mod.rs. *)

(* Folds numbers below 2^62 into 62 bits; OCaml's arithmetic is modulo 2^63. *)
let mask = (1 lsl 62) - 1
let prime = 0x100000001B3
let digest_of_nothing = 0x0BF29CE484222325
let fold digest number =
  let mixed = ((digest lxor number) * prime) land mask in
  mixed lxor (mixed lsr 31)

let fold_list digest numbers = List.fold_left fold (fold digest (List.length numbers)) numbers

(* A linear congruential generator of 48 bits; the draws are from its upper 31. *)
type random = { mutable seed : int }
let random seed = { seed }
let draw random bound =
  random.seed <- (random.seed * 25214903917 + 11) land ((1 lsl 48) - 1);
  (random.seed lsr 17) mod bound

let take n l = List.filteri (fun i _ -> i < n) l
