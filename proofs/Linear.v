(** * Linearity: a handle goes in once and comes out once

    At each step, what the cache held and what it was offered is what it holds and what it hands back, each as often as before.
    Over a trace that offers each handle once, each is in exactly one place: resident, retired, or given back. *)

Require Import Victims.

Lemma used_hid p c e l : lawful p -> Permutation (map hid (used p c e l)) (hid e :: map hid l).
Proof.
  intros L. unfold used. rewrite (Permutation_map hid (enqueue_perm p L _ _)). simpl.
  destruct (next_same p L c (with_leases (N.succ (leases e)) e)) as (_ & -> & _). reflexivity.
Qed.

Lemma admitted_hid p c k h b x n l : lawful p -> Permutation (map hid (admitted p c k h b x n l)) (h :: map hid l).
Proof.
  intros L. unfold admitted. rewrite (Permutation_map hid (enqueue_perm p L _ _)). simpl.
  destruct (first_same p L c (Entry k h b x n 0 0)) as (_ & -> & _). reflexivity.
Qed.

Lemma evict_hid b n l kept out : evict b n l = (kept, out) -> Permutation (map hid l) (map hid kept ++ map hid out).
Proof. intros E. apply evict_perm in E. apply (Permutation_map hid) in E. now rewrite map_app in E. Qed.

Lemma split_hid l : Permutation (map hid l) (map hid (filter leased l) ++ map hid (filter unleased l)).
Proof. rewrite <- map_app. apply Permutation_map, filter_split_perm. Qed.

(** Theorem: one step, as multisets. *)
Theorem linear_step p st o st' a : lawful p -> step p st o = (st', a) ->
  Permutation (held st ++ offered o) (held st' ++ returned a).
Proof.
  intros L S. unfold held, returned. pose proof (split_hid (order st)) as Ho.
  destruct st as [ord ret rip vac bud mx clk]; simpl in *.
  destruct o; open_step S; simpl in *; found; simpl in *; subst;
  repeat match goal with H : room _ _ _ _ _ = inr _ |- _ =>
    let E := fresh "E" in apply room_evicts in H as (? & ? & E) end;
  repeat match goal with H : evict _ _ _ = _ |- _ => apply evict_hid in H end;
  repeat match goal with
    | |- context [used p ?c ?e ?l] => pose proof (used_hid p c e l L); generalize dependent (used p c e l); intros
    | |- context [admitted p ?c ?k ?h ?b ?x ?n ?l] =>
        pose proof (admitted_hid p c k h b x n l L); generalize dependent (admitted p c k h b x n l); intros
    end;
  rewrite ?map_app, ?app_nil_r in *; simpl in *; rewrite ?map_app in *;
  try reflexivity; multiset.
Qed.

(** Theorem: every trace, as multisets. *)
Theorem linear_run p os : lawful p -> forall st,
  Permutation (held st ++ flat_map offered os) (held (fst (run p st os)) ++ snd (run p st os)).
Proof.
  intros L. induction os as [|o t IH]; intros st; [reflexivity|]. simpl.
  destruct (step p st o) as [st1 a] eqn:S. pose proof (linear_step _ _ _ _ _ L S) as A.
  specialize (IH st1). destruct (run p st1 t) as [st2 out]. simpl in *. multiset.
Qed.

(** Theorem: each offered handle is in exactly one place, and nothing else is anywhere. *)
Theorem each_handle_is_in_one_place p b m os st out : lawful p ->
  run p (empty b m) os = (st, out) -> NoDup (flat_map offered os) ->
  NoDup (map hid (order st) ++ (map hid (retired st) ++ map hid (ripe st)) ++ out) /\
  (forall h, In h (flat_map offered os) <->
     In h (map hid (order st)) \/ In h (map hid (retired st) ++ map hid (ripe st)) \/ In h out).
Proof.
  intros L R D. pose proof (linear_run p os L (empty b m)) as Q. rewrite R in Q. unfold held in Q. simpl in Q.
  rewrite <- !app_assoc in Q. rewrite <- !app_assoc. split.
  - eapply Permutation_NoDup; eassumption.
  - intros h. rewrite !in_app_iff. transitivity (In h (map hid (order st) ++ map hid (retired st) ++ map hid (ripe st) ++ out)).
    + split; apply Permutation_in; [|symmetry]; exact Q.
    + rewrite !in_app_iff. tauto.
Qed.

Lemma handles_once p b m os : lawful p -> NoDup (flat_map offered os) -> NoDup (map hid (order (fst (run p (empty b m) os)))).
Proof.
  intros L D. destruct (run p (empty b m) os) as [st out] eqn:R.
  destruct (each_handle_is_in_one_place _ _ _ _ _ _ L R D) as [N _]. simpl. revert N.
  generalize ((map hid (retired st) ++ map hid (ripe st)) ++ out).
  induction (map hid (order st)) as [|h t IH]; intros l N; constructor.
  - inversion N as [|? ? I _]; subst. intros J. apply I, in_or_app. auto.
  - inversion N; subst. eauto.
Qed.
