(** * A key has at most one resident entry or open vacancy

    Retired entries have no key any more that leads to them, so they do not count. That no handle is held twice follows from
    linearity ([Linear.each_handle_is_in_one_place]). *)

Require Import Victims Linear.

Definition names (st : state) := map key (order st) ++ map vkey (vacancies st).

Lemma used_key p c e l : lawful p -> Permutation (map key (used p c e l)) (key e :: map key l).
Proof.
  intros L. unfold used. rewrite (Permutation_map key (enqueue_perm p L _ _)). simpl.
  destruct (next_same p L c (with_leases (N.succ (leases e)) e)) as (-> & _). reflexivity.
Qed.

Lemma admitted_key p c k h b x n l : lawful p -> Permutation (map key (admitted p c k h b x n l)) (k :: map key l).
Proof.
  intros L. unfold admitted. rewrite (Permutation_map key (enqueue_perm p L _ _)). simpl.
  destruct (first_same p L c (Entry k h b x n 0 0)) as (-> & _). reflexivity.
Qed.

Lemma evict_key b n l kept out : evict b n l = (kept, out) -> Permutation (map key l) (map key kept ++ map key out).
Proof. intros E. apply evict_perm in E. apply (Permutation_map key) in E. now rewrite map_app in E. Qed.

Lemma split_key l : Permutation (map key l) (map key (filter leased l) ++ map key (filter unleased l)).
Proof. rewrite <- map_app. apply Permutation_map, filter_split_perm. Qed.

Lemma absent_key k l : (forall e, In e l -> has_key k e = false) -> count_occ N.eq_dec (map key l) k = 0%nat.
Proof.
  intros A. apply count_occ_not_In. intros I. apply in_map_iff in I as (e & K & I).
  apply A in I. unfold has_key in I. rewrite K, N.eqb_refl in I. discriminate.
Qed.

Lemma absent_vacancy k l : (forall v, In v l -> of_key k v = false) -> count_occ N.eq_dec (map vkey l) k = 0%nat.
Proof.
  intros A. apply count_occ_not_In. intros I. apply in_map_iff in I as (v & K & I).
  apply A in I. unfold of_key in I. rewrite K, N.eqb_refl in I. discriminate.
Qed.

(** A list without repetitions counts everything at most once; [counts y] carries all that is known over to counts of [y]. *)
Ltac counts y :=
  repeat match goal with H : Permutation _ _ |- _ => apply count_of_perm with (y := y) in H || clear H end;
  do 3 (cbn [map key vkey with_leases] in *; count_step y); change (count_occ N.eq_dec [] y) with 0%nat in *.

Theorem keys_stay_unique p st o st' a : lawful p -> NoDup (names st) -> step p st o = (st', a) -> NoDup (names st').
Proof.
  intros L D S. pose proof (split_key (order st)) as Ho.
  rewrite (NoDup_count_occ N.eq_dec) in *. intros y. specialize (D y) as Dy. unfold names in *.
  destruct st as [ord ret rip vac bud mx clk]; simpl in *.
  destruct o; open_step S; simpl in *; found; simpl in *; subst;
  repeat match goal with H : room _ _ _ _ _ = inr _ |- _ =>
    let E := fresh "E" in apply room_evicts in H as (? & ? & E) end;
  repeat match goal with H : evict _ _ _ = _ |- _ => apply evict_key in H end;
  repeat match goal with
    | |- context [used p ?c ?e ?l] => pose proof (used_key p c e l L); generalize dependent (used p c e l); intros
    | |- context [admitted p ?c ?k ?h ?b ?x ?n ?l] =>
        pose proof (admitted_key p c k h b x n l L); generalize dependent (admitted p c k h b x n l); intros
    end;
  repeat match goal with
    | H : forall b, In b _ -> of_key ?k b = false |- _ => apply absent_vacancy in H
    | H : forall b, In b _ -> has_key ?k b = false |- _ => apply absent_key in H
    | H : of_key _ _ = true |- _ => apply N.eqb_eq in H; simpl in H
    | H : has_key _ _ = true |- _ => apply N.eqb_eq in H; simpl in H
    end; subst; clear D;
  try (counts y; lia);
  match goal with k : N |- _ =>
    destruct (N.eq_dec k y) as [->|]; counts y; rewrite ?count_same, ?count_other in * by assumption; lia
  end.
Qed.

Theorem keys_are_unique_on_every_trace p b m os : lawful p -> NoDup (names (fst (run p (empty b m) os))).
Proof.
  intros L. assert (NoDup (names (empty b m))) as D by constructor.
  revert D. generalize (empty b m). induction os as [|o t IH]; intros st D; [exact D|]. simpl.
  destruct (step p st o) as [st1 a] eqn:S. specialize (IH st1 (keys_stay_unique _ _ _ _ _ L D S)).
  destruct (run p st1 t). exact IH.
Qed.
