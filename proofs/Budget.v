(** * The budget: resident + retired + reserved never exceeds it

    Every step keeps both limits, bytes and entries. A shrink that leased, retired and reserved bytes forbid is refused. *)

Require Import Victims.

Definition fits (st : state) := charged st <= budget st /\ counted st <= most st.

Lemma sum_used p c e l w : lawful p -> (forall a b, same_entry a b -> w a = w b) ->
  sum w (used p c e l) = w (with_leases (N.succ (leases e)) e) + sum w l.
Proof.
  intros L W. unfold used. rewrite (sum_perm _ _ _ (enqueue_perm p L _ _)). simpl.
  now rewrite (W _ _ (next_same p L _ _)).
Qed.

Lemma sum_admitted p c k h b x n l w : lawful p -> (forall a b, same_entry a b -> w a = w b) ->
  sum w (admitted p c k h b x n l) = w (Entry k h b x n 0 0) + sum w l.
Proof.
  intros L W. unfold admitted. rewrite (sum_perm _ _ _ (enqueue_perm p L _ _)). simpl.
  now rewrite (W _ _ (first_same p L _ _)).
Qed.

Lemma size_same a b : same_entry a b -> size a = size b.
Proof. now intros (_ & _ & S & _). Qed.
Lemma one_same a b : same_entry a b -> one a = one b.
Proof. reflexivity. Qed.

Lemma sum_unleased_le w l : sum w (filter leased l) <= sum w l.
Proof. rewrite (sum_split w leased l). lia. Qed.

(** Theorem: every step keeps the budget. *)
Theorem budget_kept p st o st' a : lawful p -> fits st -> step p st o = (st', a) -> fits st'.
Proof.
  intros L [Fb Fe] S. unfold fits, charged, counted, bytes_reserved, entries_reserved in *.
  pose proof (sum_unleased_le size (order st)) as Lb. pose proof (sum_unleased_le one (order st)) as Le.
  destruct st as [ord ret rip vac bud mx clk]; simpl in *.
  destruct o; open_step S; simpl in *; found; simpl in *; subst;
  repeat match goal with H : room _ _ _ _ _ = inr _ |- _ =>
    apply room_fits in H as [? ?]; unfold bytes_reserved, entries_reserved in *; simpl in * end;
  repeat match goal with H : evict _ _ _ = _ |- _ => apply evict_perm in H;
    pose proof (sum_perm size _ _ H); pose proof (sum_perm one _ _ H); clear H end;
  rewrite ?(sum_used p _ _ _ _ L size_same), ?(sum_used p _ _ _ _ L one_same),
    ?(sum_admitted p _ _ _ _ _ _ _ _ L size_same), ?(sum_admitted p _ _ _ _ _ _ _ _ L one_same) in *;
  rewrite ?sum_app in *; simpl in *; unfold promise, one in *; simpl in *; rewrite ?sum_app in *;
  try match goal with H : (_ <? _) = false |- _ => apply N.ltb_ge in H end;
  try lia.
Qed.

(** Theorem: the limits are those that were asked for. *)
Theorem limits_are_as_they_were_asked_for p st o st' a : step p st o = (st', a) ->
  most st' = most st /\ budget st' = match o, says a with SetBudget b, Done => b | _, _ => budget st end.
Proof.
  intros S. destruct o; open_step S; simpl; auto.
Qed.

(** Theorem: on every trace from an empty cache. *)
Theorem budget_kept_on_every_trace p b m os : lawful p -> fits (fst (run p (empty b m) os)).
Proof.
  intros L. assert (fits (empty b m)) as F by (unfold fits, charged, counted, bytes_reserved, entries_reserved; simpl; lia).
  revert F. generalize (empty b m). induction os as [|o t IH]; intros st F; [exact F|]. simpl.
  destruct (step p st o) as [st1 a] eqn:S. specialize (IH st1 (budget_kept _ _ _ _ _ L F S)).
  destruct (run p st1 t). exact IH.
Qed.

(** Theorem: a shrink is refused exactly if leased, retired and reserved bytes exceed it; then nothing changes. (In a state that
    fits, entries never forbid a shrink.) *)
Theorem shrink_is_refused_iff_held p st b : fits st ->
  (says (snd (step p st (SetBudget b))) <> Done <-> b < held_bytes (order st) (retired st) (vacancies st)) /\
  (says (snd (step p st (SetBudget b))) <> Done -> fst (step p st (SetBudget b)) = st).
Proof.
  intros [_ F]. unfold step, room. rewrite !N.add_0_l.
  replace (b <? 0) with false by (symmetry; apply N.ltb_ge; lia).
  destruct (b <? held_bytes _ _ _) eqn:H; simpl.
  - apply N.ltb_lt in H. repeat split; auto. intros _. discriminate.
  - apply N.ltb_ge in H.
    assert (most st <? held_entries (order st) (retired st) (vacancies st) = false) as ->.
    { apply N.ltb_ge. unfold held_entries, counted in *. pose proof (sum_unleased_le one (order st)). lia. }
    destruct (evict _ _ _) as [kept out]; simpl. repeat split; try tauto; lia.
Qed.

(** ** Sixty-four bits are enough

    Numbers here are unbounded, those of the Rust are [u64]. A cache's budget is at most its heap's limit, and that is below 2^63. What a call asks
    for is compared with the budget before anything is added to it, so that no sum the Rust forms can wrap. *)

Lemma held_is_charged st : held_bytes (order st) (retired st) (vacancies st) <= charged st.
Proof. unfold held_bytes, charged. pose proof (sum_unleased_le size (order st)). lia. Qed.

Theorem sums_fit_64_bits st bytes : fits st -> budget st < 2 ^ 63 -> bytes <= budget st ->
  bytes + charged st < 2 ^ 64 /\ bytes + held_bytes (order st) (retired st) (vacancies st) < 2 ^ 64.
Proof.
  intros [F _] L B. pose proof (held_is_charged st). change (2 ^ 64) with (2 ^ 63 + 2 ^ 63). lia.
Qed.
