(** * Rebasing: the Rust brings its clock down, and nobody can tell ([Camp::rebase] in [src/cache/policy/camp.rs])

    A [u64] can hold no clock that grows for ever. When it is due, the Rust numbers anew: a priority at or above the clock keeps its
    distance to it, and those below it, which leases kept, become 0, 1, 2 and so on in their order, with the new clock behind them. This
    file says the same of the model, and shows that no answer changes, however often it is done. *)

Require Import Victims Camp.

(** ** The new numbers *)

Section Numbers.
Variable c : N.            (* the clock *)
Variable known : list N.   (* the priorities that the Rust remembers: those of all residents, and of slots that hold nothing now *)

(** How many different known priorities are below [h]. *)
Definition place (h : N) := N.of_nat (length (filter (fun g => g <? h) (nodup N.eq_dec known))).

Definition renumbered (h : N) := if h <? c then place h else place c + (h - c).

Lemma place_grows g h : In g known -> g < h -> place g < place h.
Proof.
  intros I L. apply (nodup_In N.eq_dec) in I. unfold place.
  set (below := fun k l => length (filter (fun x => x <? k) l)).
  assert (forall l, (below g l <= below h l)%nat /\ (In g l -> (below g l < below h l)%nat)) as G; unfold below in *.
  { clear I. induction l as [|a t [A B]]; simpl; [easy|].
    destruct (N.ltb_spec a g), (N.ltb_spec a h); simpl; try lia; split; try lia; intros [->|I]; try lia; specialize (B I); lia. }
  destruct (G (nodup N.eq_dec known)) as [_ B]. specialize (B I). lia.
Qed.

Lemma renumbered_grows g h : In g known -> g < h -> renumbered g < renumbered h.
Proof.
  intros I L. unfold renumbered. destruct (N.ltb_spec g c), (N.ltb_spec h c); try lia.
  - now apply place_grows.
  - pose proof (place_grows g c I). lia.
Qed.

Definition rebased_entry (e : entry) := marked (renumbered (prio e)) (ratio e) e.

(** Theorem: it changes no comparison, whatever stands below the clock. Two entries compare by their new numbers as by the old ones. *)
Theorem rebasing_keeps_every_comparison a b : In (prio a) known -> In (prio b) known ->
  sooner (rebased_entry a) (rebased_entry b) = sooner a b.
Proof.
  intros A B. unfold sooner, rebased_entry. simpl. destruct (N.lt_total (prio a) (prio b)) as [L|[E|L]].
  - pose proof (renumbered_grows _ _ A L). replace (prio a <? prio b) with true by (symmetry; now apply N.ltb_lt).
    now replace (renumbered (prio a) <? renumbered (prio b)) with true by (symmetry; now apply N.ltb_lt).
  - rewrite E, !N.ltb_irrefl, !N.eqb_refl. reflexivity.
  - pose proof (renumbered_grows _ _ B L).
    replace (prio a <? prio b) with false by (symmetry; apply N.ltb_ge; lia).
    replace (prio a =? prio b) with false by (symmetry; apply N.eqb_neq; lia).
    replace (renumbered (prio a) <? renumbered (prio b)) with false by (symmetry; apply N.ltb_ge; lia).
    now replace (renumbered (prio a) =? renumbered (prio b)) with false by (symmetry; apply N.eqb_neq; lia).
Qed.

End Numbers.

Definition rebased (known : list N) (st : state) :=
  State (map (rebased_entry (clock st) known) (order st)) (retired st) (ripe st) (vacancies st) (budget st) (most st)
        (place known (clock st)).

(** ** States that cannot be told apart

    [e'] is to the clock [c'] what [e] is to [c]: as far above it, or somewhere below it, as [e] is. *)

Definition tracks (c c' : N) (e e' : entry) :=
  same_entry e e' /\ ratio e = ratio e' /\
  (c <= prio e -> prio e' = c' + (prio e - c)) /\ (prio e < c -> prio e' < c').

Definition alike (a b : state) :=
  Forall2 (tracks (clock a) (clock b)) (order a) (order b) /\ Forall2 same_entry (retired a) (retired b) /\
  Forall2 same_entry (ripe a) (ripe b) /\
  vacancies a = vacancies b /\ budget a = budget b /\ most a = most b.

Lemma tracks_same c c' l l' : Forall2 (tracks c c') l l' -> Forall2 same_entry l l'.
Proof. induction 1; constructor; auto. apply H. Qed.

Lemma same_sum w l l' : (forall a b, same_entry a b -> w a = w b) -> Forall2 same_entry l l' -> sum w l = sum w l'.
Proof. intros W F. induction F; simpl; auto. now rewrite (W _ _ H), IHF. Qed.

Lemma same_leased a b : same_entry a b -> leased a = leased b.
Proof. intros (_ & _ & _ & _ & L). unfold leased. now rewrite L. Qed.

Lemma filter_alike {R : entry -> entry -> Prop} f l l' : (forall a b, R a b -> f a = f b) -> Forall2 R l l' ->
  Forall2 R (filter f l) (filter f l').
Proof. intros E F. induction F; simpl; [constructor|]. rewrite (E _ _ H). destruct (f y); auto. Qed.

Lemma hids (R : entry -> entry -> Prop) l l' : (forall a b, R a b -> same_entry a b) -> Forall2 R l l' -> map hid l = map hid l'.
Proof. intros E F. induction F; simpl; auto. destruct (E _ _ H) as (_ & -> & _). now f_equal. Qed.

Lemma find_alike {R : entry -> entry -> Prop} f l l' : (forall a b, R a b -> f a = f b) -> Forall2 R l l' ->
  match find_split f l, find_split f l' with
  | Some (x, e, y), Some (x', e', y') => Forall2 R x x' /\ R e e' /\ Forall2 R y y'
  | None, None => True
  | _, _ => False
  end.
Proof.
  intros E F. induction F as [|a b t u H F IH]; simpl; auto. rewrite (E _ _ H). destruct (f b).
  - repeat split; auto.
  - destruct (find_split f t) as [[[x e] y]|], (find_split f u) as [[[x' e'] y']|]; try tauto.
    destruct IH as (A & B & C). repeat split; auto.
Qed.

Lemma evict_alike (R : entry -> entry -> Prop) l l' : (forall a b, R a b -> same_entry a b) -> Forall2 R l l' -> forall b n,
  Forall2 R (fst (evict b n l)) (fst (evict b n l')) /\ Forall2 R (snd (evict b n l)) (snd (evict b n l')).
Proof.
  intros E F. induction F as [|e e' t t' H F IH]; intros b n; simpl; [split; constructor|].
  destruct ((b =? 0) && (n =? 0)); simpl; [split; constructor; auto|].
  rewrite (same_leased _ _ (E _ _ H)). destruct (leased e').
  - specialize (IH b n). destruct (evict b n t), (evict b n t'). simpl in *. destruct IH. split; auto.
  - destruct (E _ _ H) as (_ & _ & S & _). rewrite S.
    specialize (IH (b - size e') (n - 1)). destruct (evict (b - size e') (n - 1) t), (evict (b - size e') (n - 1) t'). simpl in *.
    destruct IH. split; auto.
Qed.

(** An eviction moves both clocks alike. *)
Lemma clocks_alike out out' : forall c c' l l', Forall2 (tracks c c') out out' -> Forall2 (tracks c c') l l' ->
  Forall2 (tracks (after_evicting camp c out) (after_evicting camp c' out')) l l'.
Proof.
  revert out'. induction out as [|e t IH]; intros out' c c' l l' F G.
  - inversion F; subst. exact G.
  - inversion F as [|? e' ? t' T F']; subst. unfold after_evicting in *. simpl.
    assert (forall k k', Forall2 (tracks c c') k k' -> Forall2 (tracks (N.max c (prio e)) (N.max c' (prio e'))) k k') as M.
    { intros k k' K. induction K as [|a a' u u' Ta K IHK]; constructor; auto. clear - T Ta.
      destruct T as (_ & _ & A & B), Ta as (Sa & Ra & Aa & Ba). repeat split; try apply Sa; auto; lia. }
    apply IH; apply M; assumption.
Qed.

Lemma enqueue_alike c c' e e' l l' : c <= prio e -> tracks c c' e e' -> Forall2 (tracks c c') l l' ->
  Forall2 (tracks c c') (camp_enqueue e l) (camp_enqueue e' l').
Proof.
  intros P T F. induction F as [|a a' t t' Ta F IH]; simpl; [auto|].
  assert (sooner e' a' = sooner e a) as ->.
  { destruct T as (_ & R & A & B), Ta as (_ & Ra & Aa & Ba). unfold sooner. rewrite <- R, <- Ra. specialize (A P).
    destruct (N.lt_ge_cases (prio a) c) as [L|L].
    - specialize (Ba L).
      replace (prio e' <? prio a') with false by (symmetry; apply N.ltb_ge; lia).
      replace (prio e <? prio a) with false by (symmetry; apply N.ltb_ge; lia).
      replace (prio e' =? prio a') with false by (symmetry; apply N.eqb_neq; lia).
      now replace (prio e =? prio a) with false by (symmetry; apply N.eqb_neq; lia).
    - specialize (Aa L). f_equal; [|f_equal].
      + destruct (N.ltb_spec (prio e) (prio a)), (N.ltb_spec (prio e') (prio a')); auto; lia.
      + destruct (N.eqb_spec (prio e) (prio a)), (N.eqb_spec (prio e') (prio a')); auto; lia. }
  destruct (sooner e a); auto.
Qed.

Lemma used_alike c c' e e' l l' : same_entry e e' -> Forall2 (tracks c c') l l' ->
  Forall2 (tracks c c') (used camp c e l) (used camp c' e' l').
Proof.
  intros (K & H & S & C & L) F. unfold used. simpl. apply enqueue_alike; auto; simpl; [lia|].
  rewrite C, S. repeat split; simpl; auto; try lia; congruence.
Qed.

Lemma admitted_alike c c' k h b x n l l' : Forall2 (tracks c c') l l' ->
  Forall2 (tracks c c') (admitted camp c k h b x n l) (admitted camp c' k h b x n l').
Proof.
  intros F. unfold admitted. simpl. apply enqueue_alike; auto; simpl; [lia|].
  repeat split; simpl; auto; lia.
Qed.

Lemma room_alike st st' limit l l' b n : alike st st' -> Forall2 (tracks (clock st) (clock st')) l l' ->
  match room st limit l b n, room st' limit l' b n with
  | inl w, inl w' => w = w'
  | inr (k, out), inr (k', out') => Forall2 (tracks (clock st) (clock st')) k k' /\ Forall2 (tracks (clock st) (clock st')) out out'
  | _, _ => False
  end.
Proof.
  intros (O & R & P & V & B & M) F. unfold room, held_bytes, held_entries. rewrite <- V, <- M.
  pose proof (tracks_same _ _ _ _ F) as G.
  assert (forall w, (forall a b, same_entry a b -> w a = w b) ->
    sum w (filter leased l) = sum w (filter leased l') /\ sum w l = sum w l' /\ sum w (retired st) = sum w (retired st')) as E.
  { intros w W. repeat split; apply same_sum; auto. apply filter_alike; auto using same_leased. }
  destruct (E size) as (-> & -> & ->); [now intros ? ? (_ & _ & ? & _)|].
  destruct (E one) as (-> & -> & ->); [reflexivity|].
  repeat match goal with |- context [if ?x then _ else _] => destruct x; auto end.
  match goal with |- context [evict ?x ?y l] =>
    pose proof (evict_alike _ _ _ (fun a b (T : tracks (clock st) (clock st') a b) => proj1 T) F x y) as Q;
    destruct (evict x y l), (evict x y l') end. exact Q.
Qed.

Lemma same_with_leases n a b : same_entry a b -> same_entry (with_leases n a) (with_leases n b).
Proof. intros (? & ? & ? & ? & ?). repeat split; auto. Qed.
Lemma tracks_with_leases c c' n a b : tracks c c' a b -> tracks c c' (with_leases n a) (with_leases n b).
Proof. intros (S & R & A & B). split; [now apply same_with_leases|]. auto. Qed.

Ltac both := match goal with
  | F : Forall2 ?R ?l ?l' |- context [find_split ?f ?l] =>
    let Q := fresh "Q" in
    assert (forall a b, R a b -> f a = f b) as Q by
      (intros ? ? ?; try (match goal with T : tracks _ _ _ _ |- _ => destruct T as (T & _) end);
       match goal with T : same_entry _ _ |- _ => destruct T as (T1 & T2 & _); unfold has_key, has_hid; congruence end);
    pose proof (find_alike f l l' Q F); clear Q;
    destruct (find_split f l) as [[[? ?] ?]|], (find_split f l') as [[[? ?] ?]|]; try tauto;
    repeat match goal with H : _ /\ _ |- _ => destruct H end
  end.

(** Theorem: two such states answer every call alike, and are such states after it. *)
Theorem alike_states_answer_alike st st' o : alike st st' ->
  snd (step camp st o) = snd (step camp st' o) /\ alike (fst (step camp st o)) (fst (step camp st' o)).
Proof.
  intros A. pose proof A as (O & R & P & V & B & M).
  pose proof (hids _ _ _ (fun a b (T : same_entry a b) => T) P) as HP.
  destruct st as [ord ret rip vac bud mx clk], st' as [ord' ret' rip' vac' bud' mx' clk']; simpl in *; subst vac' bud' mx'.
  assert (forall e e', tracks clk clk' e e' -> hid e = hid e') as TH by (intros ? ? ((_ & ? & _) & _); auto).
  assert (forall e e', tracks clk clk' e e' -> same_entry e e') as TS by (intros ? ? (? & _); auto).
  assert (forall e e', same_entry e e' -> leased e = leased e') as TL by (intros; now apply same_leased).
  assert (forall e e', same_entry e e' -> leases e = leases e') as TN by (intros ? ? (_ & _ & _ & _ & ?); auto).
  assert (sum size rip = sum size rip') as SR by (apply same_sum; auto; now intros ? ? (_ & _ & ? & _)).
  assert (forall l l', Forall2 (tracks clk clk') l l' -> map hid l = map hid l') as HT by
    (intros ? ? HF; apply (hids (tracks clk clk')); auto).
  assert (forall l l', Forall2 same_entry l l' -> map hid l = map hid l') as HS by (intros ? ? HF; apply (hids same_entry); auto).
  assert (forall f, (forall a b, same_entry a b -> f a = f b) -> Forall2 (tracks clk clk') (filter f ord) (filter f ord')) as FT.
  { intros f Ff. apply filter_alike; auto. }
  assert (forall a b, same_entry a b -> unleased a = unleased b) as TU by (intros ? ? T; unfold unleased; now rewrite (TL _ _ T)).
  assert (Forall2 same_entry (filter leased ord) (filter leased ord')) as FL by (eapply tracks_same, FT; auto).
  assert (held_bytes ord ret vac = held_bytes ord' ret' vac) as HB.
  { unfold held_bytes. f_equal; f_equal; apply same_sum; auto; now intros ? ? (_ & _ & ? & _). }
  destruct o; unfold step, get, put; cbn [order retired ripe vacancies budget most clock];
  rewrite <- ?HP, <- ?SR; try both; try both;
  repeat match goal with |- context [find_split (of_key ?k) ?v] => destruct (find_split (of_key k) v) as [[[? [? [?|]]] ?]|] end;
  cbn [fst snd clock order retired ripe vacancies budget most]; try (split; [try reflexivity|exact A]; fail);
  repeat match goal with
    | T : tracks clk clk' ?e ?e' |- context [leased ?e] => rewrite (TL _ _ (TS _ _ T))
    | T : tracks clk clk' ?e ?e' |- context [hid ?e] => rewrite (TH _ _ T)
    | T : same_entry ?e ?e' |- context [leased (with_leases (N.pred (leases ?e)) ?e)] =>
        rewrite (TL _ _ (same_with_leases (N.pred (leases e)) _ _ T))
    end;
  rewrite <- ?HB;
  try (match goal with |- context [room ?s ?lim ?l ?b ?n] => lazymatch s with context [clk'] => fail | _ => 
       match goal with |- context [room ?s' ?lim' ?l' b n] => lazymatch s' with context [clk'] =>
         assert (Forall2 (tracks (clock s) (clock s')) l l') as FF by (simpl; auto using Forall2_app);
         pose proof (room_alike s s' lim l l' b n A FF) as RR;
         destruct (room s lim l b n) as [?|[? ?]], (room s' lim l' b n) as [?|[? ?]]; try (exfalso; exact RR); subst; try (destruct RR)
       end end end end);
  try (match goal with |- context [evict ?b ?n ord] => destruct (evict_alike _ _ _ TS O b n) as [Ek Eo];
         destruct (evict b n ord), (evict b n ord') end);
  repeat match goal with |- context [if ?b then _ else _] =>
     lazymatch b with context [with_leases] => idtac | _ => idtac end; destruct b eqn:? end;
  cbn [fst snd clock order retired ripe vacancies budget most] in *; try (split; [reflexivity|exact A]; fail);
  try (match goal with T : same_entry ?e ?e' |- _ => pose proof (TN _ _ T) as TNe; rewrite ?TNe in * end);
  repeat match goal with T : tracks clk clk' ?e ?e' |- _ =>
    lazymatch goal with H : leases e = leases e' |- _ => fail | _ => pose proof (TN _ _ (TS _ _ T)) as ?TNE end end;
  try congruence;
  (split; [try reflexivity; unfold plain;
      (erewrite HT by eassumption; reflexivity) || (erewrite HS by eassumption; reflexivity) ||
      (erewrite TH by eassumption; reflexivity) || idtac
         | repeat split; cbn [clock order retired ripe vacancies budget most]; auto using Forall2_app]).
  all: try (match goal with |- Answer _ _ _ (map hid ?a) _ = Answer _ _ _ (map hid ?b) _ => rewrite (HT a b); auto end; fail).
  all: try (match goal with |- Answer _ _ (map hid ?a) _ _ = Answer _ _ (map hid ?b) _ _ => rewrite (HT a b); auto end; fail).
  all: try (apply used_alike; auto using Forall2_app; fail).
  all: try (apply admitted_alike; auto; apply clocks_alike; auto; fail).
  all: try (apply clocks_alike; auto; fail).
  all: try (apply Forall2_app; auto; constructor; auto using same_with_leases; rewrite TNE; auto using tracks_with_leases; fail).
  all: try (apply Forall2_app; auto using same_with_leases; fail).
Qed.

(** ** A rebase makes such a state *)

Lemma alike_refl st : alike st st.
Proof.
  assert (forall l, Forall2 same_entry l l) as R by (induction l; constructor; repeat split; auto).
  repeat split; auto. induction (order st); constructor; auto. repeat split; lia.
Qed.

Lemma alike_trans a b d : alike a b -> alike b d -> alike a d.
Proof.
  assert (forall l1 l2 l3, Forall2 same_entry l1 l2 -> Forall2 same_entry l2 l3 -> Forall2 same_entry l1 l3) as T.
  { intros l1 l2 l3 F. revert l3. induction F as [|x y t u H F IH]; intros l3 G; inversion G as [|? z ? v H' G']; subst; constructor; auto.
    destruct H as (? & ? & ? & ? & ?), H' as (? & ? & ? & ? & ?). repeat split; congruence. }
  intros (O & R & P & V & B & M) (O' & R' & P' & V' & B' & M'). repeat split; try congruence; eauto.
  clear - O O'. revert O'. generalize (order d). induction O as [|x y t u H F IH]; intros l3 G;
    inversion G as [|? z ? v H' G']; subst; constructor; auto.
  destruct H as ((? & ? & ? & ? & ?) & ? & A & C), H' as ((? & ? & ? & ? & ?) & ? & A' & C').
  repeat split; try congruence; intros L.
  - specialize (A L). rewrite A'; lia.
  - auto.
Qed.

Theorem a_rebase_makes_an_alike_state known st : (forall e, In e (order st) -> In (prio e) known) -> alike st (rebased known st).
Proof.
  intros K. destruct (alike_refl st) as (_ & R & P & _). unfold alike, rebased. cbn [order retired ripe vacancies budget most clock].
  repeat split; auto. revert K. induction (order st) as [|e t IH]; intros K; constructor; [|apply IH; intros; apply K; now right].
  repeat split; simpl; unfold renumbered; intros H.
  - now replace (prio e <? clock st) with false by (symmetry; apply N.ltb_ge; lia).
  - replace (prio e <? clock st) with true by (symmetry; now apply N.ltb_lt). apply place_grows; auto. apply K. now left.
Qed.

(** ** Whenever it is done

    [answers] is what a trace answers without it; [rebasing] what a trace may answer that rebases between any two calls, as often as it
    likes. (The Rust does it inside a call, between the last victim and the admission: by [admitted_alike] that is the same as after it.) *)

Fixpoint answers (st : state) (os : list call) : list answer :=
  match os with [] => [] | o :: t => snd (step camp st o) :: answers (fst (step camp st o)) t end.

Inductive rebasing : state -> list call -> list answer -> Prop :=
  | over st : rebasing st [] []
  | calls st o os later : rebasing (fst (step camp st o)) os later -> rebasing st (o :: os) (snd (step camp st o) :: later)
  | rebases known st os all :
      (forall e, In e (order st) -> In (prio e) known) -> rebasing (rebased known st) os all -> rebasing st os all.

(** Theorem: no trace shows when, or whether, the clock was brought down. *)
Theorem rebasing_changes_no_answer st os all : rebasing st os all -> all = answers st os.
Proof.
  intros R. enough (forall st0, alike st0 st -> all = answers st0 os) as E by (apply E, alike_refl).
  induction R as [st|st o os later R IH|known st os all K R IH]; intros st0 A; simpl; auto.
  - destruct (alike_states_answer_alike st0 st o A) as [-> A']. f_equal. auto.
  - apply IH. eapply alike_trans; [exact A|]. now apply a_rebase_makes_an_alike_state.
Qed.
