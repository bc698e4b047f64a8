(** * The calls, as their caller sees them

    The other files say what no call may do. A cache that never finds what it holds, refuses whatever it is offered, or never ends a
    lease would keep every promise there. This file says what the calls do: when each is granted, what it leaves behind, and how
    many leases there are.

    Some ask that the names differ, that the retired are leased and the ripe are not, or that no handle is held twice. So it is
    after every trace that offers each handle once: [Unique.keys_are_unique_on_every_trace], [Leases.sorted_out_on_every_trace],
    [Linear.each_handle_is_in_one_place]. *)

Require Import Victims Budget Linear Unique Leases.

(** ** Who is found *)

Lemma find_split_in {A} (f : A -> bool) l a : In a l -> f a = true -> find_split f l <> None.
Proof. intros I F N. now rewrite (find_split_none _ _ N a I) in F. Qed.

Lemma names_once st : NoDup (names st) -> NoDup (map key (order st)) /\ NoDup (map vkey (vacancies st)).
Proof.
  unfold names. induction (map key (order st)) as [|k t IH]; simpl; intros D; [split; auto; constructor|].
  inversion D as [|? ? N D']; subst. destruct (IH D') as [A B]. split; auto. constructor; auto.
  intros I. apply N, in_or_app. auto.
Qed.

(** Among different keys, there is one entry to find, and likewise one vacancy. *)
Lemma find_key k st e : NoDup (names st) -> In e (order st) -> key e = k ->
  exists x y, find_split (has_key k) (order st) = Some (x, e, y) /\ order st = x ++ e :: y.
Proof.
  intros D I K. destruct (find_split (has_key k) (order st)) as [[[x e'] y]|] eqn:F.
  - pose proof F as G. apply find_split_some in G as (E & K' & _). apply N.eqb_eq in K'. exists x, y.
    enough (e' = e) as -> by auto.
    apply names_once in D as [D _]. rewrite E, map_app in D. simpl in D. apply NoDup_remove_2 in D.
    rewrite E in I. apply in_app_or in I as [I|[<-|I]]; auto; elim D; rewrite K', <- K; apply in_or_app; [left|right]; now apply in_map.
  - elim (find_split_in (has_key k) _ _ I); auto. now apply N.eqb_eq.
Qed.

Lemma find_vacancy k r st : NoDup (names st) -> In (Vacancy k r) (vacancies st) ->
  exists x y, find_split (of_key k) (vacancies st) = Some (x, Vacancy k r, y) /\ vacancies st = x ++ Vacancy k r :: y.
Proof.
  intros D I. destruct (find_split (of_key k) (vacancies st)) as [[[x v] y]|] eqn:F.
  - pose proof F as G. apply find_split_some in G as (E & K' & _). apply N.eqb_eq in K'. exists x, y.
    enough (v = Vacancy k r) as -> by auto.
    apply names_once in D as [_ D]. rewrite E, map_app in D. simpl in D. apply NoDup_remove_2 in D.
    rewrite E in I. apply in_app_or in I as [I|[I|I]]; auto;
      elim D; rewrite K'; apply in_or_app; [left|right]; change k with (vkey (Vacancy k r)); now apply in_map.
  - elim (find_split_in (of_key k) _ _ I); auto. now apply N.eqb_eq.
Qed.

Lemma no_key k l : (forall e, In e l -> key e <> k) -> find_split (has_key k) l = None.
Proof.
  intros N. destruct (find_split (has_key k) l) as [[[x e] y]|] eqn:F; auto.
  apply find_split_some in F as (-> & K & _). apply N.eqb_eq in K. elim (N e); auto. apply in_or_app. simpl. auto.
Qed.

Lemma no_vacancy k l : (forall v, In v l -> vkey v <> k) -> find_split (of_key k) l = None.
Proof.
  intros N. destruct (find_split (of_key k) l) as [[[x v] y]|] eqn:F; auto.
  apply find_split_some in F as (-> & K & _). apply N.eqb_eq in K. elim (N v); auto. apply in_or_app. simpl. auto.
Qed.

(** A key is resident, or open, or neither: never two of them. *)
Lemma resident_is_not_open k st e : NoDup (names st) -> In e (order st) -> key e = k ->
  forall v, In v (vacancies st) -> vkey v <> k.
Proof.
  intros D I K v J E. unfold names in D. apply (NoDup_app_in _ _ k D).
  - rewrite <- K. now apply in_map.
  - rewrite <- E. now apply in_map.
Qed.

(** Theorem: who is resident is found, by its key and with its own handle. *)
Theorem who_is_resident_is_found p st k e : NoDup (names st) -> In e (order st) -> key e = k ->
  snd (step p st (Get k)) = plain (Hit (hid e)) /\ snd (step p st (Lookup k)) = plain (Hit (hid e)).
Proof.
  intros D I K. destruct (find_key _ _ _ D I K) as (x & y & F & _). simpl. unfold get. rewrite F. auto.
Qed.

(** Theorem: of who is not, a lookup gets the vacancy, unless another has it. *)
Theorem who_is_not_is_missed p st k : (forall e, In e (order st) -> key e <> k) ->
  snd (step p st (Get k)) = plain Miss /\
  ((exists v, In v (vacancies st) /\ vkey v = k) -> snd (step p st (Lookup k)) = plain Busy) /\
  ((forall v, In v (vacancies st) -> vkey v <> k) -> snd (step p st (Lookup k)) = plain Opened).
Proof.
  intros N. apply no_key in N. simpl. unfold get. rewrite N. repeat split.
  - intros (v & I & K). destruct (find_split (of_key k) (vacancies st)) as [[[x v'] y]|] eqn:F; auto.
    elim (find_split_in (of_key k) _ _ I); auto. now apply N.eqb_eq.
  - intros V. now rewrite (no_vacancy _ _ V).
Qed.

(** ** What is granted

    What was not evicted could be: the bytes and the entry fit beside what no eviction can free. *)

Definition could_fit (st : state) (limit : N) (l : list entry) (b n : N) :=
  b + held_bytes l (retired st) (vacancies st) <= limit /\ n + held_entries l (retired st) (vacancies st) <= most st.

Lemma room_granted st limit l b n :
  match room st limit l b n with inl why => refusal why = true /\ ~ could_fit st limit l b n | inr _ => could_fit st limit l b n end.
Proof.
  unfold room, could_fit. destruct (N.ltb_spec limit b) as [A|A]; [split; auto; lia|].
  destruct (N.ltb_spec limit (b + held_bytes l (retired st) (vacancies st))); [split; auto; lia|].
  destruct (N.ltb_spec (most st) (n + held_entries l (retired st) (vacancies st))); [split; auto; lia|]. auto.
Qed.

(** Theorem: an insert is refused only for an open vacancy, a leased entry of its key, or for want of room that no eviction can make. *)
Theorem an_insert_is_granted_iff p st k h bytes c : NoDup (names st) ->
  (says (snd (step p st (Insert k h bytes c))) = Done <->
   (forall v, In v (vacancies st) -> vkey v <> k) /\ (forall e, In e (order st) -> key e = k -> leased e = false) /\
   could_fit st (budget st) (without k (order st)) bytes 1).
Proof.
  intros D. simpl. unfold without, put.
  destruct (find_split (of_key k) (vacancies st)) as [[[x v] y]|] eqn:V.
  { split; [discriminate|]. intros (N & _). rewrite (no_vacancy _ _ N) in V. discriminate. }
  assert (forall v, In v (vacancies st) -> vkey v <> k) as O.
  { intros v I E. pose proof (find_split_none _ _ V v I) as F. unfold of_key in F. now apply N.eqb_neq in F. }
  destruct (find_split (has_key k) (order st)) as [[[x e] y]|] eqn:F.
  - pose proof F as G. apply find_split_some in G as (E & K & _). apply N.eqb_eq in K.
    assert (In e (order st)) as I by (rewrite E; apply in_or_app; simpl; auto).
    destruct (leased e) eqn:L.
    { split; [discriminate|]. intros (_ & U & _). rewrite (U e I K) in L. discriminate. }
    assert (forall e', In e' (order st) -> key e' = k -> leased e' = false) as U.
    { intros e' I' K'. destruct (find_key _ _ _ D I' K') as (x' & y' & F' & _). rewrite F in F'. now injection F' as _ <- _. }
    pose proof (room_granted st (budget st) (x ++ y) bytes 1) as R.
    destruct (room st (budget st) (x ++ y) bytes 1) as [why|[kept out]]; simpl; [|tauto].
    destruct R as [R1 R2]. split; [intros ->; discriminate|tauto].
  - assert (forall e, In e (order st) -> key e = k -> leased e = false) as U.
    { intros e I K. pose proof (find_split_none _ _ F e I) as G. unfold has_key in G. now apply N.eqb_neq in G. }
    pose proof (room_granted st (budget st) (order st) bytes 1) as R.
    destruct (room st (budget st) (order st) bytes 1) as [why|[kept out]]; simpl; [|tauto].
    destruct R as [R1 R2]. split; [intros ->; discriminate|tauto].
Qed.

(** Theorem: so is a reservation only for want of room, a commit only above its reservation, a removal only of what is leased. *)
Theorem a_reservation_is_granted_iff p st k bytes : NoDup (names st) -> In (Vacancy k None) (vacancies st) ->
  (says (snd (step p st (Reserve k bytes))) = Done <-> could_fit st (budget st) (order st) bytes 1).
Proof.
  intros D I. destruct (find_vacancy _ _ _ D I) as (x & y & F & _). simpl. rewrite F.
  pose proof (room_granted st (budget st) (order st) bytes 1) as R.
  destruct (room st (budget st) (order st) bytes 1) as [why|[kept out]]; simpl; [|tauto].
  destruct R as [R1 R2]. split; [intros ->; discriminate|tauto].
Qed.

Theorem a_commit_is_granted_iff p st k h bytes c promised : NoDup (names st) -> In (Vacancy k (Some promised)) (vacancies st) ->
  (says (snd (step p st (Commit k h bytes c))) = Hit h <-> bytes <= promised).
Proof.
  intros D I. destruct (find_vacancy _ _ _ D I) as (x & y & F & _). simpl. rewrite F.
  destruct (N.ltb_spec promised bytes); simpl; split; intros; auto; try discriminate; lia.
Qed.

Theorem a_removal_is_granted_iff p st k e : NoDup (names st) -> In e (order st) -> key e = k ->
  (snd (step p st (Remove k)) = Answer Done [] [hid e] [] [] <-> leased e = false).
Proof.
  intros D I K. destruct (find_key _ _ _ D I K) as (x & y & F & _). simpl. rewrite F.
  destruct (leased e); simpl; split; auto; discriminate.
Qed.

(** ** What is left behind *)

(** Theorem: what was admitted is resident, as it was offered: unleased after an insert, with one lease after a commit. *)
Theorem what_is_admitted_is_resident p st o st' a k h bytes c : lawful p -> step p st o = (st', a) -> refusal (says a) = false ->
  o = Insert k h bytes c \/ o = Commit k h bytes c ->
  exists e, In e (order st') /\ same_entry e (Entry k h bytes c (match o with Commit _ _ _ _ => 1 | _ => 0 end) 0 0).
Proof.
  intros L S R O.
  assert (forall cl n l, exists e, In e (admitted p cl k h bytes c n l) /\ same_entry e (Entry k h bytes c n 0 0)) as A.
  { intros cl n l. exists (first_use p cl (Entry k h bytes c n 0 0)). split; [|apply (first_same p L)].
    unfold admitted. eapply Permutation_in; [symmetry; apply (enqueue_perm p L)|]. now left. }
  destruct O as [-> | ->]; open_step S; simpl in *; try discriminate; auto;
  match goal with H : room ?s ?lim ?l ?b ?n = inl _ |- _ => pose proof (room_granted s lim l b n) as G; rewrite H in G; destruct G as [G _]; congruence end.
Qed.

(** Theorem: in place of what had the key, which comes back as such and not as a victim. *)
Theorem an_insert_hands_back_what_it_replaces p st k h bytes c : NoDup (names st) ->
  says (snd (step p st (Insert k h bytes c))) = Done ->
  (forall e, In e (order st) -> key e = k -> replaced (snd (step p st (Insert k h bytes c))) = [hid e]) /\
  ((forall e, In e (order st) -> key e <> k) -> replaced (snd (step p st (Insert k h bytes c))) = []).
Proof.
  intros D G. assert (forall l old, says (snd (put p st l old k h bytes c)) = Done -> replaced (snd (put p st l old k h bytes c)) = old) as P.
  { intros l old. unfold put. pose proof (room_granted st (budget st) l bytes 1) as R.
    destruct (room st (budget st) l bytes 1) as [why|[kept out]]; simpl; auto. intros ->. now destruct R. }
  simpl in *. destruct (find_split (of_key k) (vacancies st)) as [[[x v] y]|]; [discriminate|]. split.
  - intros e I K. destruct (find_key _ _ _ D I K) as (x & y & F & _). rewrite F in *. destruct (leased e); [discriminate|auto].
  - intros N. rewrite (no_key _ _ N) in *. auto.
Qed.

(** Theorem: a retired key leads nowhere, and after a clearing none does; what was unleased is handed out at once. So it is, and only
    that, when a cache ends. *)
Theorem what_is_retired_is_hidden p st k : NoDup (names st) ->
  (forall e, In e (order (fst (step p st (Retire k)))) -> key e <> k) /\
  (forall e, In e (order st) -> key e = k -> leased e = false -> replaced (snd (step p st (Retire k))) = [hid e]) /\
  order (fst (step p st Clear)) = [] /\ replaced (snd (step p st Clear)) = map hid (filter unleased (order st)) /\
  order (fst (step p st Drain)) = filter leased (order st) /\ replaced (snd (step p st Drain)) = map hid (filter unleased (order st)).
Proof.
  intros D. split; [|split; [|auto]].
  - pose proof (names_once _ D) as [D' _]. simpl.
    destruct (find_split (has_key k) (order st)) as [[[x e] y]|] eqn:F; simpl.
    + apply find_split_some in F as (E & K & _). apply N.eqb_eq in K. rewrite E, map_app in D'. simpl in D'.
      apply NoDup_remove_2 in D'. intros b I B. apply D'. rewrite K, <- B, <- map_app. apply in_map.
      destruct (leased e); simpl in I; auto.
    + intros b I B. pose proof (find_split_none _ _ F b I) as G. unfold has_key in G. now apply N.eqb_neq in G.
  - intros e I K U. destruct (find_key _ _ _ D I K) as (x & y & F & _). simpl. rewrite F, U. reflexivity.
Qed.

(** Calls that hand out what is ripe, before all else ([returned]). *)
Definition collects (o : call) : bool :=
  match o with Reserve _ _ | MoreRoom _ | Insert _ _ _ _ | Retire _ | Collect | Clear | Drain | SetBudget _ => true | _ => false end.

(** Theorem: what is ripe leads whatever the next of these calls hands out, unless that is refused, and stays until then; it got ripe by the end
    of its last lease, behind what was. *)
Theorem what_is_ripe_leads p st o st' a : step p st o = (st', a) ->
  (if collects o && negb (refusal (says a)) then collected a = map hid (ripe st) /\ ripe st' = []
   else collected a = [] /\ (ripe st' = ripe st \/ exists e, ripe st' = ripe st ++ [e] /\ o = Release (hid e) /\ leases e = 0)).
Proof.
  intros S. destruct o; open_step S; simpl; auto.
  all: try (match goal with H : room ?s ?lim ?l ?b ?n = inl ?w |- _ =>
    pose proof (room_granted s lim l b n) as G; rewrite H in G; destruct G as [-> _]; simpl; auto end).
  split; auto. right. found. match goal with |- exists e, ?r ++ [?e'] = _ /\ _ => exists e' end.
  repeat split; simpl; [f_equal; symmetry; now apply N.eqb_eq|].
  match goal with H : leased (with_leases _ _) = false |- _ => apply N.ltb_ge in H; simpl in H; lia end.
Qed.

(** What a call does to the vacancies: opens one, fills in what is promised, or ends one. *)
Definition vacancies_after (o : call) (v : verdict) (before after : list vacancy) : Prop :=
  match o, v with
  | Lookup k, Opened => after = Vacancy k None :: before
  | Reserve k b, Done => exists x y, before = x ++ Vacancy k None :: y /\ after = x ++ Vacancy k (Some b) :: y
  | Unreserve k, Done => exists x y b, before = x ++ Vacancy k (Some b) :: y /\ after = x ++ Vacancy k None :: y
  | Commit k _ _ _, Hit _ => exists x y b, before = x ++ Vacancy k (Some b) :: y /\ after = x ++ y
  | Close k, Done => exists x y r, before = x ++ Vacancy k r :: y /\ after = x ++ y
  | _, _ => after = before
  end.

Theorem vacancies_are_as_they_were_asked_for p st o st' a : step p st o = (st', a) ->
  vacancies_after o (says a) (vacancies st) (vacancies st').
Proof.
  intros S. destruct o; open_step S; simpl in *; auto; found; simpl in *;
  repeat match goal with H : of_key _ _ = true |- _ => apply N.eqb_eq in H; simpl in H; subst end; eauto 6;
  try (destruct says; eauto; fail).
  all: try (match goal with H : room ?s ?lim ?l ?b ?n = inl ?w |- _ =>
    pose proof (room_granted s lim l b n) as G; rewrite H in G; destruct G as [G _]; destruct w; try discriminate; auto end).
  destruct v; simpl in *; subst; eauto 6.
Qed.

(** Theorem: who holds a vacancy can do with it what it is for: nothing but a reservation and a commit may be refused. *)
Theorem a_vacancy_obeys p st k r : NoDup (names st) -> In (Vacancy k r) (vacancies st) ->
  says (snd (step p st (Close k))) = Done /\
  (r <> None -> says (snd (step p st (Unreserve k))) = Done /\ says (snd (step p st (MoreRoom k))) = Done).
Proof.
  intros D I. destruct (find_vacancy _ _ _ D I) as (x & y & F & _). simpl. rewrite F. split; auto.
  destruct r; [|easy]. intros _. split; auto. destruct (evict _ _ _); reflexivity.
Qed.

(** ** How many leases there are

    Those on one handle, wherever its entry is. *)

Definition lent (h : N) (st : state) : N := sum (fun e => if hid e =? h then leases e else 0) (order st ++ retired st ++ ripe st).

Definition begun (h : N) (o : call) (v : verdict) : N :=
  match o, v with
  | _, Hit h' => if h' =? h then 1 else 0
  | Share h', Done => if h' =? h then 1 else 0
  | _, _ => 0
  end.

Definition ended (h : N) (o : call) (v : verdict) : N :=
  match o, v with Release h', Done => if h' =? h then 1 else 0 | _, _ => 0 end.

Lemma lent_same h a b : same_entry a b -> (if hid a =? h then leases a else 0) = (if hid b =? h then leases b else 0).
Proof. now intros (_ & -> & _ & _ & ->). Qed.

Lemma lent_unleased h l : (forall e, In e l -> leased e = false) -> sum (fun e => if hid e =? h then leases e else 0) l = 0.
Proof.
  induction l as [|e t IH]; simpl; intros U; auto. rewrite IH by auto. specialize (U e (or_introl eq_refl)).
  apply N.ltb_ge in U. destruct (hid e =? h); lia.
Qed.

(** Theorem: a hit, a commit and a share begin one lease, a release ends one, and nothing else begins or ends any. *)
Theorem leases_are_counted p st o st' a h : lawful p -> sorted_out st -> step p st o = (st', a) ->
  lent h st' + ended h o (says a) = lent h st + begun h o (says a).
Proof.
  intros L [R Q] S. pose proof (lent_unleased h _ Q) as Z. unfold lent.
  pose proof (sum_split (fun e => if hid e =? h then leases e else 0) leased (order st)) as P.
  rewrite (lent_unleased h (filter (fun e => negb (leased e)) (order st))) in P
    by (intros e I; apply filter_In in I as [_ I]; now apply negb_true_iff).
  destruct st as [ord ret rip vac bud mx clk]; simpl in *.
  destruct o; open_step S; simpl in *; found; simpl in *; subst; rewrite ?sum_app; simpl;
  repeat match goal with H : room _ _ _ _ _ = inr _ |- _ =>
    let E := fresh "E" in apply room_evicts in H as (? & ? & E) end;
  repeat match goal with H : evict _ _ _ = (?k, ?out) |- _ =>
    let U := fresh "U" in
    assert (U : forall e, In e out -> leased e = false) by (intros ? ?; eapply evict_unleased; eauto);
    apply (lent_unleased h) in U; apply evict_perm in H;
    pose proof (sum_perm (fun e => if hid e =? h then leases e else 0) _ _ H); clear H end;
  rewrite ?(sum_used p _ _ _ _ L (lent_same h)), ?(sum_admitted p _ _ _ _ _ _ _ _ L (lent_same h)) in *;
  rewrite ?sum_app in *; simpl in *; rewrite ?sum_app in *; simpl in *;
  repeat match goal with
    | H : has_hid _ _ = true |- _ => apply N.eqb_eq in H; subst
    | H : leased _ = true |- _ => apply N.ltb_lt in H; simpl in H
    | H : leased _ = false |- _ => apply N.ltb_ge in H; simpl in H
    | |- context [if ?b then _ else _] => destruct b
    | H : context [if ?b then _ else _] |- _ => destruct b
    end; try lia.
  all: try (match goal with H : room ?s ?lim ?l ?b ?n = inl ?w |- _ =>
    pose proof (room_granted s lim l b n) as G; rewrite H in G; destruct G as [G _]; destruct w; try discriminate; lia end).
  match goal with R : forall a, In a (_ ++ ?x :: _) -> leased a = true |- _ =>
    assert (leased x = true) as G by (apply R, in_or_app; simpl; auto); apply N.ltb_lt in G; lia end.
Qed.

(** Theorem: so the leases on a handle are those begun and not ended, on every trace. *)
Fixpoint begun_in_all (p : policy) (h : N) (st : state) (os : list call) : N :=
  match os with [] => 0 | o :: t => let (st', a) := step p st o in begun h o (says a) + begun_in_all p h st' t end.
Fixpoint ended_in_all (p : policy) (h : N) (st : state) (os : list call) : N :=
  match os with [] => 0 | o :: t => let (st', a) := step p st o in ended h o (says a) + ended_in_all p h st' t end.

Theorem leases_are_counted_on_every_trace p b m os h : lawful p ->
  lent h (fst (run p (empty b m) os)) + ended_in_all p h (empty b m) os = begun_in_all p h (empty b m) os.
Proof.
  intros L. assert (sorted_out (empty b m)) as Q by (split; easy).
  change (begun_in_all p h (empty b m) os) with (lent h (empty b m) + begun_in_all p h (empty b m) os).
  revert Q. generalize (empty b m). induction os as [|o t IH]; intros st Q; simpl; [lia|].
  destruct (step p st o) as [st' a] eqn:S. pose proof (leases_are_counted _ _ _ _ _ h L Q S).
  specialize (IH st' (retired_are_leased_and_ripe_are_not _ _ _ _ _ Q S)). destruct (run p st' t). simpl in *. lia.
Qed.

(** Theorem: whoever holds a lease can share it and end it. *)
Theorem a_lease_obeys p st h : sorted_out st -> NoDup (held st) -> 0 < lent h st ->
  says (snd (step p st (Share h))) = Done /\ says (snd (step p st (Release h))) = Done.
Proof.
  intros [_ Q] D P. unfold lent in P. rewrite !sum_app, (lent_unleased h (ripe st) Q) in P.
  assert (forall l, 0 < sum (fun e => if hid e =? h then leases e else 0) l -> exists e, In e l /\ hid e = h /\ leased e = true) as W.
  { induction l as [|e t IH]; simpl; [lia|]. destruct (N.eqb_spec (hid e) h) as [E|E].
    - destruct (leased e) eqn:U; [exists e; auto|]. apply N.ltb_ge in U. intros K.
      destruct IH as (a & I & A); [lia|]. exists a. auto.
    - intros K. destruct IH as (a & I & A); [lia|]. exists a. auto. }
  unfold held in D. simpl. destruct (find_split (has_hid h) (order st)) as [[[x e] y]|] eqn:F.
  - enough (leased e = true) as -> by auto. apply find_split_some in F as (E & H & _). apply N.eqb_eq in H.
    destruct (W (order st ++ retired st)) as (a & I & A & U); [rewrite sum_app; lia|]. apply in_app_or in I as [I|I].
    + enough (e = a) as -> by auto. rewrite E, !map_app in D. simpl in D. rewrite <- !app_assoc in D. simpl in D.
      apply NoDup_remove_2 in D. rewrite E in I. apply in_app_or in I as [I|[I|I]]; auto; elim D; rewrite H, <- A, !in_app_iff;
      auto using in_map.
    + exfalso. apply (NoDup_app_in _ _ h D); [rewrite E, <- H; apply in_map, in_or_app; simpl; auto|].
      apply in_or_app. left. rewrite <- A. now apply in_map.
  - destruct (W (retired st)) as (a & I & A & U).
    { destruct (W (order st ++ retired st)) as (a & I & A & U); [rewrite sum_app; lia|]. apply in_app_or in I as [I|I].
      - elim (find_split_in (has_hid h) _ _ I); auto. now apply N.eqb_eq.
      - destruct (N.eq_dec (sum (fun e => if hid e =? h then leases e else 0) (order st)) 0) as [Z|Z]; [lia|].
        destruct (W (order st)) as (c & J & C & _); [lia|]. elim (find_split_in (has_hid h) _ _ J); auto. now apply N.eqb_eq. }
    destruct (find_split (has_hid h) (retired st)) as [[[x e] y]|] eqn:G.
    + destruct (leased (with_leases (N.pred (leases e)) e)); auto.
    + elim (find_split_in (has_hid h) _ _ I); auto. now apply N.eqb_eq.
Qed.
