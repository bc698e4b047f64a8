(** * A refused call changes nothing

    No eviction, no reordering, no vacancy, no clock; the offered handle, if there is one, comes back alone. *)

Require Import Victims.

Theorem refused_changes_nothing p st o st' a : step p st o = (st', a) -> refusal (says a) = true ->
  st' = st /\ returned a = offered o.
Proof.
  intros S R. destruct o; open_step S; simpl in *; try discriminate; unfold returned; simpl; auto.
Qed.

(** The only handle that a refusal hands out is the one it was given; nothing leaves the cache with it. *)
Corollary refused_evicts_nothing p st o st' a : step p st o = (st', a) -> refusal (says a) = true ->
  collected a = [] /\ replaced a = [] /\ victims a = [].
Proof.
  intros S R. destruct o; open_step S; simpl in *; try discriminate; auto.
Qed.

(** Refused once, refused for ever while nothing else happens. *)
Corollary refused_again p st o st' a : step p st o = (st', a) -> refusal (says a) = true ->
  step p st' o = (st', a).
Proof.
  intros S R. destruct (refused_changes_nothing _ _ _ _ _ S R) as [-> _]. exact S.
Qed.

(** Theorem: nor is anything refused for want of a collection. What is ripe leaves with whatever makes room, so that every call says
    the same before and after [Collect]. *)
Theorem collecting_changes_no_verdict p st o :
  says (snd (step p (fst (step p st Collect)) o)) = says (snd (step p st o)).
Proof.
  destruct st as [ord ret rip vac bud mx clk]. simpl. destruct o; simpl; unfold get, put, room; simpl; auto;
  repeat match goal with
    | |- context [match ?x with _ => _ end] =>
        lazymatch x with context [match _ with _ => _ end] => fail | _ => destruct x; simpl; auto end
    end.
Qed.
