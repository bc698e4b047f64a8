(** * CAMP: an order by (H, ratio, age), and the merge of one queue per ratio

    After Ghandeharizadeh, Irani, Lam and Yap, "CAMP: a cost adaptive multi-queue eviction policy for key-value stores"
    (Middleware 2014), in integers. An entry's ratio is its cost for each byte, kept to five significant bits, so that there
    are few ratios; its priority H is the clock at its last use plus its ratio, and the clock L is the highest priority ever
    evicted. The next victim is the least by (H, ratio), and among equals the one used longest ago. That the Rust brings H and L down
    from time to time is for [Rebase.v]. *)

Require Import Victims.

(** ** Ratios *)

Definition ratio_most := 2 ^ 44.
Definition cost_most := 2 ^ 47 - 1.    (* so that [cost << 16] stays below 2^63 *)

(** The five leading bits. *)
Definition keep5 (r : N) := let cut := N.size r - 5 in N.shiftl (N.shiftr r cut) cut.

(** In 2^-16 nanoseconds for each byte. *)
Definition base_ratio (cost size : N) :=
  keep5 (N.max 1 (N.min ratio_most (N.shiftl (N.min cost cost_most) 16 / N.max 1 size))).

(** From the second use on it counts double. *)
Definition later_ratio (cost size : N) := N.min (2 * base_ratio cost size) ratio_most.

Theorem keep5_is_close r : keep5 r <= r /\ r <= keep5 r + r / 16.
Proof.
  unfold keep5. set (cut := N.size r - 5). rewrite N.shiftl_mul_pow2, N.shiftr_div_pow2.
  assert (2 ^ cut <> 0) as Z by (apply N.pow_nonzero; lia).
  pose proof (N.div_mod r (2 ^ cut) Z) as D. pose proof (N.mod_lt r (2 ^ cut) Z) as M.
  rewrite (N.mul_comm (2 ^ cut)) in D. generalize dependent (r / 2 ^ cut * 2 ^ cut). intros whole D.
  generalize dependent (r mod 2 ^ cut). intros rest D M.
  split; [lia|].
  destruct (N.eq_dec cut 0) as [C|C].
  - assert (2 ^ cut = 1) by (rewrite C; reflexivity). generalize (r / 16). lia.
  - assert (2 ^ cut <= r / 16); [|lia]. apply N.div_le_lower_bound; [lia|].
    destruct (N.eq_dec r 0) as [->|R]; [now simpl in cut|].
    change 16 with (2 ^ 4). rewrite <- N.pow_add_r. replace (4 + cut) with (N.log2 r).
    + apply N.log2_spec. lia.
    + unfold cut in *. rewrite N.size_log2 in * by exact R. lia.
Qed.

Theorem ratios_are_bounded c s : 1 <= base_ratio c s <= ratio_most /\ 1 <= later_ratio c s <= ratio_most.
Proof.
  unfold later_ratio, base_ratio. set (r := N.max 1 _).
  assert (1 <= r <= ratio_most) as [L U] by (unfold r, ratio_most; lia).
  destruct (keep5_is_close r) as [A B].
  assert (1 <= keep5 r).
  { assert (r / 16 < r) by (apply N.div_lt; lia). lia. }
  assert (1 <= ratio_most) by (unfold ratio_most; lia). lia.
Qed.

(** ** The policy *)

Definition marked (h r : N) (e : entry) := Entry (key e) (hid e) (size e) (cost e) (leases e) h r.

(** Strictly before: a higher priority, or the same and a higher ratio, is later. *)
Definition sooner (a b : entry) : bool :=
  (prio a <? prio b) || (prio a =? prio b) && (ratio a <? ratio b).

(** Behind its equals, since it was used last. *)
Fixpoint camp_enqueue (e : entry) (l : list entry) : list entry :=
  match l with
  | [] => [e]
  | a :: t => if sooner e a then e :: l else a :: camp_enqueue e t
  end.

Definition camp := Policy
  (fun c e => let r := base_ratio (cost e) (size e) in marked (c + r) r e)
  (fun c e => let r := later_ratio (cost e) (size e) in marked (c + r) r e)
  camp_enqueue
  (fun c e => N.max c (prio e)).

Lemma sooner_spec a b : sooner a b = true <-> prio a < prio b \/ prio a = prio b /\ ratio a < ratio b.
Proof. unfold sooner. rewrite orb_true_iff, andb_true_iff, !N.ltb_lt, N.eqb_eq. tauto. Qed.

Lemma sooner_false a b : sooner a b = false <-> prio b < prio a \/ prio b = prio a /\ ratio b <= ratio a.
Proof. rewrite <- not_true_iff_false, sooner_spec. lia. Qed.

Lemma camp_enqueue_split e l : exists x y,
  l = x ++ y /\ camp_enqueue e l = x ++ e :: y /\
  (forall a, In a x -> sooner e a = false) /\ (forall b t, y = b :: t -> sooner e b = true).
Proof.
  induction l as [|a t (x & y & -> & E & X & Y)]; simpl.
  - exists [], []. repeat split; auto; [easy|discriminate].
  - destruct (sooner e a) eqn:S.
    + exists [], (a :: x ++ y). repeat split; auto; [easy|]. now intros b t' [= <- _].
    + exists (a :: x), y. simpl. rewrite E. repeat split; auto. intros b [<-|I]; auto.
Qed.

Theorem camp_is_lawful : lawful camp.
Proof.
  constructor; try (intros; repeat split; reflexivity).
  intros e l. simpl. destruct (camp_enqueue_split e l) as (x & y & -> & -> & _). symmetry. apply Permutation_middle.
Qed.

(** ** The list is sorted, at every step *)

Definition before (a b : entry) := sooner b a = false.
Notation sorted := (StronglySorted before).

Lemma before_trans a b c : before a b -> before b c -> before a c.
Proof. unfold before. rewrite !sooner_false. lia. Qed.

Lemma sorted_app {A} (R : A -> A -> Prop) x y : StronglySorted R (x ++ y) <->
  StronglySorted R x /\ StronglySorted R y /\ forall a b, In a x -> In b y -> R a b.
Proof.
  induction x as [|a t IH]; simpl.
  - split; [|tauto]. intros S. repeat split; auto; [constructor|easy].
  - split.
    + intros S. inversion S as [|? ? St F]; subst. apply IH in St as (A1 & A2 & A3). rewrite Forall_forall in F.
      repeat split; auto.
      * constructor; auto. rewrite Forall_forall. intros b I. apply F, in_or_app. auto.
      * intros b c [<-|I] J; auto. apply F, in_or_app. auto.
    + intros (S & Sy & C). inversion S as [|? ? St F]; subst. constructor; [apply IH; auto|].
      rewrite Forall_forall in *. intros b I. apply in_app_or in I as [I|I]; auto.
Qed.

Lemma sorted_cons {A} (R : A -> A -> Prop) a t : StronglySorted R (a :: t) <->
  StronglySorted R t /\ forall b, In b t -> R a b.
Proof.
  split.
  - intros S. inversion S as [|? ? St F]; subst. rewrite Forall_forall in F. auto.
  - intros [S F]. constructor; auto. now rewrite Forall_forall.
Qed.

(** Sorted, and no priority above the clock by more than the ratio. *)
Definition in_order (c : N) (l : list entry) := sorted l /\ forall e, In e l -> prio e <= c + ratio e.

Lemma in_order_later c c' l : c <= c' -> in_order c l -> in_order c' l.
Proof. intros L [S B]. split; auto. intros e I. specialize (B e I). lia. Qed.

Lemma in_order_without c x e y : in_order c (x ++ e :: y) -> in_order c (x ++ y).
Proof.
  intros [S B]. split.
  - apply sorted_app in S as (Sx & Sy & C). apply sorted_cons in Sy as [Sy _].
    apply sorted_app. repeat split; auto. intros a b I J. apply C; simpl; auto.
  - intros a I. apply B. rewrite in_app_iff in *. simpl. tauto.
Qed.

Lemma in_order_leases c x e y n : in_order c (x ++ e :: y) -> in_order c (x ++ with_leases n e :: y).
Proof.
  intros [S B]. split.
  - apply sorted_app in S as (Sx & Sy & C). apply sorted_cons in Sy as [Sy D].
    apply sorted_app. repeat split; auto.
    + apply sorted_cons. split; auto.
    + intros a b I [<-|J]; [apply (C a e)|apply C]; simpl; auto.
  - intros a I. apply in_app_or in I as [I|[<-|I]]; [|apply (B e)|]; try apply B; rewrite in_app_iff; simpl; auto.
Qed.

Lemma in_order_filter c f l : in_order c l -> in_order c (filter f l).
Proof.
  intros [S B]. split.
  - clear B. induction S as [|a t S IH F]; simpl; [constructor|]. destruct (f a); auto. constructor; auto.
    rewrite Forall_forall in *. intros b I. apply filter_In in I as [I _]. auto.
  - intros e I. apply filter_In in I as [I _]. auto.
Qed.

Lemma in_order_enqueue c e l : prio e <= c + ratio e -> in_order c l -> in_order c (camp_enqueue e l).
Proof.
  intros Pe [S B]. destruct (camp_enqueue_split e l) as (x & y & -> & -> & X & Y). split.
  - apply sorted_app in S as (Sx & Sy & C).
    assert (forall b, In b y -> before e b) as Z.
    { intros b I. destruct y as [|b0 t]; [easy|]. specialize (Y b0 t eq_refl). apply sorted_cons in Sy as [_ Sy].
      unfold before in *. apply sooner_spec in Y. destruct I as [<-|I].
      - rewrite sooner_false. lia.
      - specialize (Sy b I). rewrite sooner_false in *. lia. }
    apply sorted_app. repeat split; auto.
    + apply sorted_cons. auto.
    + intros a b I [<-|J]; auto. apply X, I.
  - intros a I. rewrite in_app_iff in I. simpl in I. destruct I as [I|[<-|I]]; auto; apply B, in_or_app; auto.
Qed.

Lemma after_evicting_le out : forall c, c <= after_evicting camp c out.
Proof.
  unfold after_evicting. induction out as [|e t IH]; cbn [fold_left]; intros c; [lia|].
  specialize (IH (evicting camp c e)). assert (c <= evicting camp c e) by (simpl; lia). lia.
Qed.

Lemma in_order_evict c b n l kept out : evict b n l = (kept, out) -> in_order c l -> in_order c kept.
Proof.
  intros E O. revert b n kept out E. destruct O as [S B]. revert B. induction S as [|a t S IH F]; intros B b n kept out E.
  - simpl in E. injection E as <- <-. split; auto. constructor.
  - simpl in E. assert (forall e, In e t -> prio e <= c + ratio e) as Bt by (intros; apply B; simpl; auto).
    destruct ((b =? 0) && (n =? 0)). { injection E as <- <-. split; auto. constructor; auto. }
    destruct (leased a).
    + destruct (evict b n t) as [k1 o1] eqn:E1. injection E as <- <-. specialize (IH Bt _ _ _ _ E1) as [S1 B1].
      split.
      * apply sorted_cons. split; auto. rewrite Forall_forall in F. intros x I. apply F.
        eapply Permutation_in; [symmetry; exact (evict_perm _ _ _ _ _ E1)|]. apply in_or_app. auto.
      * intros x [<-|I]; auto. apply B. simpl. auto.
    + destruct (evict (b - size a) (n - 1) t) as [k1 o1] eqn:E1. injection E as <- <-. eapply IH; eauto.
Qed.

Lemma in_order_evicted c b n l kept out : evict b n l = (kept, out) -> in_order c l ->
  in_order (after_evicting camp c out) kept.
Proof. intros E O. eapply in_order_later; [apply after_evicting_le|]. eapply in_order_evict; eassumption. Qed.

(** Theorem: every step keeps the order sorted, whatever is leased and passed over. *)
Theorem camp_stays_in_order st o st' a : in_order (clock st) (order st) -> step camp st o = (st', a) ->
  in_order (clock st') (order st').
Proof.
  intros O S. assert (in_order 0 []) as N0 by (split; [constructor|easy]).
  destruct st as [ord ret rip vac bud mx clk]; simpl in *.
  destruct o; open_step S; simpl in *; found; subst; auto;
  repeat match goal with H : room _ _ _ _ _ = inr _ |- _ =>
    let E := fresh "E" in apply room_evicts in H as (? & ? & E) end;
  unfold used, admitted; simpl;
  try (eapply in_order_later; [apply N.le_0_l|exact N0]);
  eauto using in_order_without, in_order_leases, in_order_filter;
  try (apply in_order_enqueue; [simpl; lia|eauto using in_order_without]; fail);
  try (apply in_order_enqueue; [simpl; lia|]); eapply in_order_evicted; eauto using in_order_without.
Qed.

(** Theorem: so it is sorted after every trace from an empty cache. *)
Theorem camp_is_in_order_on_every_trace b m os :
  in_order (clock (fst (run camp (empty b m) os))) (order (fst (run camp (empty b m) os))).
Proof.
  assert (in_order (clock (empty b m)) (order (empty b m))) as O by (split; [constructor|easy]).
  revert O. generalize (empty b m). induction os as [|o t IH]; intros st O; [exact O|]. simpl.
  destruct (step camp st o) as [st1 a] eqn:S. specialize (IH st1 (camp_stays_in_order _ _ _ _ O S)).
  destruct (run camp st1 t). exact IH.
Qed.

(** ** One queue per ratio

    The queue of a ratio holds the entries of that ratio in the order in which they were used. *)

Definition queue (r : N) (l : list entry) := filter (fun e => ratio e =? r) l.

(** Theorem: a use appends to one queue, and leaves every other as it is: no queue is ever searched. *)
Theorem a_use_is_an_append c e l r : in_order c l -> prio e = c + ratio e ->
  queue r (camp_enqueue e l) = queue r l ++ (if ratio e =? r then [e] else []).
Proof.
  intros [S B] P. destruct (camp_enqueue_split e l) as (x & y & -> & -> & X & Y). unfold queue.
  rewrite !filter_app. simpl. destruct (ratio e =? r) eqn:R; [|now rewrite app_nil_r].
  apply N.eqb_eq in R. subst r.
  assert (filter (fun a => ratio a =? ratio e) y = []) as ->; [|now rewrite app_nil_r].
  apply filter_nothing. intros a I. apply N.eqb_neq. intros Ra.
  assert (prio a <= c + ratio a) by (apply B, in_or_app; auto).
  destruct y as [|b t]; [easy|]. specialize (Y b t eq_refl). apply sooner_spec in Y.
  apply sorted_app in S as (_ & S & _). apply sorted_cons in S as [_ S]. destruct I as [<-|I]; [lia|].
  specialize (S a I). unfold before in S. rewrite sooner_false in S. lia.
Qed.

Corollary camp_uses_append st r e n : in_order (clock st) (order st) ->
  queue r (enqueue camp (next_use camp (clock st) (with_leases n e)) (order st)) =
  queue r (order st) ++
    (if later_ratio (cost e) (size e) =? r then [next_use camp (clock st) (with_leases n e)] else []).
Proof. intros O. apply (a_use_is_an_append (clock st)); auto. Qed.

(** [merges q l]: [l] comes from the queues [q] by taking, again and again, a head than which no other head is less. *)
Inductive merges : (N -> list entry) -> list entry -> Prop :=
  | merged q : (forall r, q r = []) -> merges q []
  | least_head q q' r e t l :
      q r = e :: t ->
      (forall r' e' t', q r' = e' :: t' -> before e e') ->
      (forall r', q' r' = if r' =? r then t else q r') ->
      merges q' l -> merges q (e :: l).

(** Theorem: the order is the merge of its queues. *)
Theorem the_order_is_the_merge_of_its_queues c l : in_order c l -> merges (fun r => queue r l) l.
Proof.
  intros [S _]. induction S as [|e t S IH F].
  - now constructor.
  - apply (least_head _ (fun r => queue r t) (ratio e) e (queue (ratio e) t)); auto.
    + unfold queue. simpl. now rewrite N.eqb_refl.
    + intros r' e' t' Q. assert (In e' (queue r' (e :: t))) as I by (rewrite Q; now left).
      unfold queue in I. apply filter_In in I as [[<-|I] _].
      * unfold before. rewrite sooner_false. lia.
      * rewrite Forall_forall in F. auto.
    + intros r'. unfold queue. simpl. destruct (N.eqb_spec (ratio e) r') as [<-|D].
      * now rewrite N.eqb_refl.
      * destruct (N.eqb_spec r' (ratio e)); [congruence|reflexivity].
Qed.

(** Theorem: and there is no other: queues whose entries have the queue's ratio merge in one way only. *)
Theorem the_merge_is_unique q l : merges q l ->
  (forall r e, In e (q r) -> ratio e = r) -> forall l', merges q l' -> l = l'.
Proof.
  intros M. induction M as [q E|q q' r e t l Q L N M IH]; intros R l' M'.
  - inversion M' as [|? ? r0 e0 t0 ? Q0]; subst; auto. rewrite E in Q0. discriminate.
  - inversion M' as [? E|? q0 r0 e0 t0 l0 Q0 L0 N0 M0]; subst; [rewrite E in Q; discriminate|].
    assert (r = r0) as <-.
    { pose proof (R r e) as A. rewrite Q in A. specialize (A (or_introl eq_refl)).
      pose proof (R r0 e0) as A0. rewrite Q0 in A0. specialize (A0 (or_introl eq_refl)).
      specialize (L _ _ _ Q0). specialize (L0 _ _ _ Q). unfold before in *. rewrite sooner_false in *. lia. }
    rewrite Q in Q0. injection Q0 as <- <-. f_equal. apply IH.
    + intros r' a I. rewrite N in I. destruct (r' =? r) eqn:D; auto. apply N.eqb_eq in D. subst.
      apply R. rewrite Q. now right.
    + clear - N N0 M0. assert (forall r', q' r' = q0 r') as E by (intros; now rewrite N, N0).
      clear N N0. revert q' E. induction M0 as [q0 Z|q0 q1 r1 e1 t1 l1 Q L N M IH]; intros q' E.
      * constructor. intros. now rewrite E.
      * apply (least_head q' q1 r1 e1 t1 l1); auto.
        -- now rewrite E.
        -- intros r' e' t' H. rewrite E in H. eauto.
        -- intros r'. rewrite E. apply N.
Qed.

(** Theorem: the next victim is at the head of its queue of unleased entries, and no other such head is less. *)
Theorem the_victim_is_the_least_head c l v t : in_order c l -> filter unleased l = v :: t ->
  hd_error (queue (ratio v) (filter unleased l)) = Some v /\
  forall r w, hd_error (queue r (filter unleased l)) = Some w -> w = v \/ sooner v w = true \/
    (prio w = prio v /\ ratio w = ratio v).
Proof.
  intros O H. apply (in_order_filter _ unleased) in O. rewrite H in *. split.
  - unfold queue. simpl. now rewrite N.eqb_refl.
  - intros r w W. assert (In w (v :: t)) as I.
    { unfold queue in W. destruct (filter _ (v :: t)) as [|w' t'] eqn:Q; [discriminate|]. injection W as <-.
      assert (In w' (filter (fun e => ratio e =? r) (v :: t))) as I by (rewrite Q; now left).
      now apply filter_In in I. }
    destruct I as [<-|I]; auto. right. destruct O as [S _]. apply sorted_cons in S as [_ S]. specialize (S w I).
    unfold before in S. rewrite sooner_false in S. rewrite sooner_spec. lia.
Qed.

(** ** The clock and the marks, call by call

    What the definitions above mean to a caller: an entry stands where its last use put it. *)

(** Marked by a use under the clock [c], at the ratio [r]. *)
Definition marked_by (c r : N) (e : entry) := prio e = c + r /\ ratio e = r.

(** [e'] stands where [e] stood, leases aside. *)
Definition stands (e e' : entry) :=
  key e' = key e /\ hid e' = hid e /\ size e' = size e /\ cost e' = cost e /\ prio e' = prio e /\ ratio e' = ratio e.

(** Theorem: after a call the clock is the highest priority that it evicted, if that is above what it was. *)
Theorem the_clock_is_the_highest_evicted st o st' a : step camp st o = (st', a) ->
  exists out, victims a = map hid out /\ (forall e, In e out -> In e (order st)) /\
    clock st' = fold_left N.max (map prio out) (clock st).
Proof.
  intros S.
  assert (forall out c, after_evicting camp c out = fold_left N.max (map prio out) c) as A.
  { unfold after_evicting. induction out as [|e t IH]; intros c; simpl; auto. }
  destruct o; open_step S; simpl; found;
  repeat match goal with
    | H : room _ _ _ _ _ = inr _ |- _ => let E := fresh "E" in apply room_evicts in H as (? & ? & E)
    end;
  try (exists []; repeat split; auto; easy);
  match goal with H : evict _ _ _ = (_, ?out) |- _ => exists out; repeat split; auto; intros v I;
    apply (evict_unleased _ _ _ _ _ H) in I as [I _]; auto end.
  all: match goal with E : order _ = _ |- _ => rewrite E end; rewrite in_app_iff in *; simpl; tauto.
Qed.

(** Theorem: a hit is marked with the clock and its doubled ratio, what is admitted with the clock after the eviction and its ratio; and nothing
    else that stays gets a new mark. *)
Theorem a_use_marks_and_nothing_else_does st o st' a : step camp st o = (st', a) ->
  forall e', In e' (order st') ->
    (exists e, In e (order st) /\ stands e e') \/
    (exists k, (o = Get k \/ o = Lookup k) /\ says a = Hit (hid e') /\ marked_by (clock st) (later_ratio (cost e') (size e')) e') \/
    (exists k bytes c, (o = Insert k (hid e') bytes c \/ o = Commit k (hid e') bytes c) /\ refusal (says a) = false /\
       marked_by (clock st') (base_ratio c bytes) e').
Proof.
  intros S e' I.
  assert (OLD : In e' (order st) -> exists e, In e (order st) /\ stands e e') by (intros J; exists e'; repeat split; auto).
  assert (U : forall c e l, In e' (used camp c e l) -> In e' l \/
    hid e' = hid e /\ marked_by c (later_ratio (cost e') (size e')) e').
  { intros c e l J. unfold used in J. apply (Permutation_in _ (enqueue_perm _ camp_is_lawful _ _)) in J as [<-|J]; auto.
    right. repeat split. }
  assert (A : forall cl k h b c n l, In e' (admitted camp cl k h b c n l) -> In e' l \/
    hid e' = h /\ marked_by cl (base_ratio c b) e').
  { intros cl k h b c n l J. unfold admitted in J. apply (Permutation_in _ (enqueue_perm _ camp_is_lawful _ _)) in J as [<-|J]; auto.
    right. repeat split. }
  assert (LEFT : forall b n l kept out, evict b n l = (kept, out) -> In e' kept -> In e' l).
  { intros b n l kept out H J. eapply Permutation_in; [symmetry; exact (evict_perm _ _ _ _ _ H)|]. apply in_or_app. auto. }
  assert (SAME : forall n e, stands e (with_leases n e)) by (intros; repeat split).
  destruct st as [ord ret rip vac bud mx clk].
  destruct o; open_step S; simpl in *; found; subst; auto;
  repeat match goal with H : room _ _ _ _ _ = inr _ |- _ =>
    let E := fresh "E" in apply room_evicts in H as (? & ? & E) end;
  try (apply U in I as [I|[H M]]; [left; apply OLD; rewrite in_app_iff in *; simpl; tauto|right; left; rewrite <- H; eauto]; fail);
  try (apply A in I as [I|[H M]]; subst; [left; apply OLD; try apply (LEFT _ _ _ _ _ E) in I; try apply (LEFT _ _ _ _ _ E0) in I;
       rewrite ?in_app_iff in *; simpl; tauto|right; right; do 3 eexists; split; [|split]; [eauto|reflexivity|exact M]]; fail);
  try (left; apply OLD; rewrite ?in_app_iff in *; simpl; try tauto; eauto; fail);
  try (left; apply in_app_or in I as [I|[<-|I]]; [apply OLD|eexists; split; [|apply SAME]|apply OLD]; apply in_or_app; simpl; auto; fail);
  try (apply filter_In in I as [I _]; auto; fail).
Qed.
