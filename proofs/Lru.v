(** * LRU: the order is the order of the last uses ([src/cache/policy/lru.rs]) *)

Require Import Victims.

(** A use puts the entry last; nothing else moves. No clock, no marks. *)
Definition lru := Policy (fun _ e => e) (fun _ e => e) (fun e l => l ++ [e]) (fun c _ => c).

Theorem lru_is_lawful : lawful lru.
Proof.
  constructor; try (intros; repeat split; reflexivity).
  intros e l. symmetry. apply Permutation_cons_append.
Qed.

(** Theorem: after a hit the entry is the most recent, and all others stand as they stood. *)
Theorem a_use_is_the_most_recent st k h st' : step lru st (Get k) = (st', plain (Hit h)) ->
  exists x e y, order st = x ++ e :: y /\ hid e = h /\ key e = k /\
    order st' = (x ++ y) ++ [with_leases (N.succ (leases e)) e].
Proof.
  intros S. unfold step, get in S. destruct (find_split (has_key k) (order st)) as [[[x e] y]|] eqn:F; [|discriminate].
  apply find_split_some in F as (E & K & _). injection S as <- <-. exists x, e, y. repeat split; auto.
  now apply N.eqb_eq.
Qed.

(** Theorem: the end of a lease moves nothing. *)
Theorem a_release_moves_nothing p st h st' a : step p st (Release h) = (st', a) ->
  map hid (order st') = map hid (order st).
Proof.
  intros S. open_step S; found; simpl; auto; rewrite E, !map_app; reflexivity.
Qed.
