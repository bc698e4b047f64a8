(** * Leases: what is leased stays, and what leaves was not leased *)

Require Import Victims Linear.

(** ** Where the leased and the unleased can be *)

Definition sorted_out (st : state) :=
  (forall e, In e (retired st) -> leased e = true) /\ (forall e, In e (ripe st) -> leased e = false).

Lemma leased_succ e : leased (with_leases (N.succ (leases e)) e) = true.
Proof. apply N.ltb_lt. simpl. lia. Qed.

(** Theorem: the retired are leased, the ripe are not. *)
Theorem retired_are_leased_and_ripe_are_not p st o st' a :
  sorted_out st -> step p st o = (st', a) -> sorted_out st'.
Proof.
  intros [R Q] S. unfold sorted_out. destruct st as [ord ret rip vac bud mx clk]; simpl in *.
  destruct o; open_step S; simpl in *; auto; found; subst; simpl in *;
  (split; intros x; try tauto; auto); repeat (rewrite ?in_app_iff; simpl); intros I;
  try (destruct I as [I|[<-|I]]; auto using leased_succ; try (apply R; rewrite in_app_iff; simpl; tauto)).
  all: try (apply R; rewrite in_app_iff; simpl; tauto).
  all: try (destruct I as [I|[<-|[]]]; auto).
  all: try (destruct I as [I|I]; auto; now apply filter_In in I).
  destruct I.
Qed.

(** ** What is handed back was not leased *)

(** Handle [h] was in the cache and unleased. *)
Definition was_unleased (st : state) (h : N) :=
  exists e, (In e (order st) \/ In e (ripe st)) /\ hid e = h /\ leased e = false.

Lemma unleased_filter l h : In h (map hid (filter unleased l)) -> exists e, In e l /\ hid e = h /\ leased e = false.
Proof.
  intros I. apply in_map_iff in I as (e & H & I). apply filter_In in I as [I U].
  exists e. repeat split; auto. now apply negb_true_iff.
Qed.

(** Theorem: every handle that a step hands out was unleased, or is the offered handle of a refused call. *)
Theorem returned_handles_were_unleased p st o st' a h : sorted_out st -> step p st o = (st', a) ->
  In h (returned a) -> was_unleased st h \/ refusal (says a) = true /\ In h (offered o).
Proof.
  intros [_ Q] S I. unfold returned, was_unleased in *.
  assert (RIPE : In h (map hid (ripe st)) -> exists e, (In e (order st) \/ In e (ripe st)) /\ hid e = h /\ leased e = false).
  { intros J. apply in_map_iff in J as (e & H & J). exists e. auto. }
  destruct st as [ord ret rip vac bud mx clk]; simpl in *.
  destruct o; open_step S; simpl in *; found; subst;
  repeat match goal with H : room _ _ _ _ _ = inr _ |- _ =>
    let E := fresh "E" in apply room_evicts in H as (? & ? & E) end;
  repeat (rewrite ?in_app_iff in I; simpl in I);
  repeat match goal with H : _ \/ _ |- _ => destruct H end; subst; try tauto; auto.
  all: try (left; match goal with J : In _ (map hid (filter unleased _)) |- _ =>
    apply unleased_filter in J as (v & J & W & U); exists v; auto end).
  all: try (left; match goal with J : In _ (map hid ?out), E : evict _ _ _ = (_, ?out) |- _ =>
    apply in_map_iff in J as (v & W & J); destruct (evict_unleased _ _ _ _ _ E _ J) as [M U]; exists v;
    repeat split; auto; left; repeat (rewrite ?in_app_iff in *; simpl in *); tauto end).
  all: try (left; exists e; repeat split; auto; left; rewrite in_app_iff; simpl; tauto).
  all: try (right; split; [|now left]; match goal with H : room _ _ _ _ _ = inl ?v |- _ =>
    unfold room in H; repeat match type of H with context [if ?b then _ else _] => destruct b end;
    inversion H; reflexivity end).
Qed.

(** ** A leased entry survives, with its own handle *)

(** [e'] is the same entry as [e], leases aside. *)
Definition same_holding (e e' : entry) := key e' = key e /\ hid e' = hid e /\ size e' = size e /\ cost e' = cost e.

Definition ends_a_lease (o : call) (h : N) : N := match o with Release h' => if h =? h' then 1 else 0 | _ => 0 end.

Lemma in_used_old p c e l x : lawful p -> In x l -> In x (used p c e l).
Proof. intros L I. unfold used. eapply Permutation_in; [symmetry; apply (enqueue_perm p L)|]. now right. Qed.

Lemma in_used_new p c e l : lawful p -> exists e',
  In e' (used p c e l) /\ same_holding e e' /\ leases e' = N.succ (leases e).
Proof.
  intros L. exists (next_use p c (with_leases (N.succ (leases e)) e)).
  destruct (next_same p L c (with_leases (N.succ (leases e)) e)) as (K & H & S & C & M). repeat split; auto.
  unfold used. eapply Permutation_in; [symmetry; apply (enqueue_perm p L)|]. now left.
Qed.

Lemma in_admitted p c k h b y n l x : lawful p -> In x l -> In x (admitted p c k h b y n l).
Proof. intros L I. unfold admitted. eapply Permutation_in; [symmetry; apply (enqueue_perm p L)|]. now right. Qed.

(** Theorem: whatever is called, a leased entry is still there afterwards, with its key, its handle and its leases; a release
    ends one of them. Only an entry that had a single lease, which the call ended, may have none left. *)
Theorem leased_entries_survive p st o st' a e : lawful p -> step p st o = (st', a) ->
  In e (order st ++ retired st) -> leased e = true ->
  exists e', In e' (order st' ++ retired st' ++ ripe st') /\ same_holding e e' /\
             leases e <= leases e' + ends_a_lease o (hid e).
Proof.
  intros L S I U.
  assert (STAYS : In e (order st' ++ retired st') -> exists e',
    In e' (order st' ++ retired st' ++ ripe st') /\ same_holding e e' /\ leases e <= leases e' + ends_a_lease o (hid e)).
  { intros J. exists e. unfold same_holding. repeat split; try lia. rewrite !in_app_iff in *. tauto. }
  destruct st as [ord ret rip vac bud mx clk]; simpl in *.
  destruct o; open_step S; simpl in *; found; subst;
  repeat match goal with H : room _ _ _ _ _ = inr _ |- _ =>
    let E := fresh "E" in apply room_evicts in H as (? & ? & E) end;
  repeat (rewrite ?in_app_iff in I; simpl in I);
  try (apply STAYS; repeat (rewrite ?in_app_iff; simpl); repeat match goal with H : _ \/ _ |- _ => destruct H end; subst;
       try congruence;
       eauto 7 using in_used_old, in_admitted, evict_kept, in_or_app, in_cons, in_eq; fail).
  (* Two hits: the entry itself is placed anew, with one lease more. *)
  1, 2: destruct I as [[I|[<-|I]]|I];
    [apply STAYS|destruct (in_used_new p clk e0 (l ++ l0) L) as (e' & J & K & M)|apply STAYS|apply STAYS];
    rewrite ?in_app_iff; auto using in_used_old, in_or_app;
    exists e'; rewrite in_app_iff; repeat split; try apply K; auto; lia.
  (* Share and release change the leases of one entry, in its place; the last release of a retired one makes it ripe. *)
  1, 3: destruct I as [[I|[<-|I]]|I];
    [apply STAYS; repeat (rewrite in_app_iff; simpl); tauto| |
     apply STAYS; repeat (rewrite in_app_iff; simpl); tauto|apply STAYS; repeat (rewrite in_app_iff; simpl); tauto].
  1: exists (with_leases (N.succ (leases e0)) e0).
  2: exists (with_leases (N.pred (leases e0)) e0).
  1, 2: (split; [repeat (rewrite in_app_iff; simpl); tauto|]; repeat split; simpl; unfold has_hid in F; rewrite ?F; lia).
  1, 2, 3: destruct I as [I|[I|[<-|I]]];
    [apply STAYS; repeat (rewrite in_app_iff; simpl); tauto|apply STAYS; repeat (rewrite in_app_iff; simpl); tauto| |
     apply STAYS; repeat (rewrite in_app_iff; simpl); tauto].
  1: exists (with_leases (N.succ (leases e0)) e0).
  2, 3: exists (with_leases (N.pred (leases e0)) e0).
  1, 2, 3: (split; [repeat (rewrite in_app_iff; simpl); tauto|]; repeat split; simpl; unfold has_hid in F; rewrite ?F; lia).
  (* Clear and drain keep the leased. *)
  1, 2: apply STAYS; repeat (rewrite in_app_iff; simpl); rewrite filter_In; tauto.
Qed.

(** Theorem: nor does it lose its key. A leased resident stays resident, with its handle and its leases, whatever is called, but for
    the two calls that are there to hide it: a retirement of its key, and a clearing of the whole cache. *)
Theorem a_leased_resident_stays_resident p st o st' a e : lawful p -> step p st o = (st', a) ->
  In e (order st) -> leased e = true -> (forall k, o = Retire k -> k <> key e) -> o <> Clear ->
  exists e', In e' (order st') /\ same_holding e e' /\ leases e <= leases e' + ends_a_lease o (hid e).
Proof.
  intros L S I U NR NC.
  assert (STAYS : In e (order st') -> exists e',
    In e' (order st') /\ same_holding e e' /\ leases e <= leases e' + ends_a_lease o (hid e)).
  { intros J. exists e. unfold same_holding. repeat split; auto; lia. }
  destruct st as [ord ret rip vac bud mx clk]; simpl in *.
  destruct o; open_step S; simpl in *; found; subst;
  repeat match goal with H : room _ _ _ _ _ = inr _ |- _ =>
    let E := fresh "E" in apply room_evicts in H as (? & ? & E) end;
  repeat (rewrite ?in_app_iff in I; simpl in I);
  try (apply STAYS; repeat (rewrite ?in_app_iff; simpl); repeat match goal with H : _ \/ _ |- _ => destruct H end; subst;
       try congruence;
       eauto 7 using in_used_old, in_admitted, evict_kept, in_or_app, in_cons, in_eq; fail).
  1, 2: destruct I as [I|[<-|I]];
    [apply STAYS|destruct (in_used_new p clk e0 (l ++ l0) L) as (e' & J & K & M)|apply STAYS];
    rewrite ?in_app_iff; auto using in_used_old, in_or_app;
    exists e'; repeat split; try apply K; auto; lia.
  1, 2: destruct I as [I|[<-|I]];
    [apply STAYS; repeat (rewrite in_app_iff; simpl); tauto| |
     apply STAYS; repeat (rewrite in_app_iff; simpl); tauto].
  1: exists (with_leases (N.succ (leases e0)) e0).
  2: exists (with_leases (N.pred (leases e0)) e0).
  1, 2: (split; [repeat (rewrite in_app_iff; simpl); tauto|]; repeat split; simpl; unfold has_hid in F; rewrite ?F; lia).
  all: try (apply STAYS; apply filter_In; tauto).
  all: try (elim NC; reflexivity).
  all: try (destruct I as [I|[<-|I]]; [apply STAYS; apply in_or_app; auto| |apply STAYS; apply in_or_app; auto];
    exfalso; apply N.eqb_eq in F; apply (NR k eq_refl); auto).
Qed.

(** Theorem: a lookup keeps the membership: the same handles are resident, retired and ripe as before. *)
Theorem lookups_keep_membership p st k st' a o : lawful p -> o = Get k \/ o = Lookup k -> step p st o = (st', a) ->
  Permutation (map hid (order st)) (map hid (order st')) /\ retired st' = retired st /\ ripe st' = ripe st /\
  returned a = [].
Proof.
  intros L O S. destruct O as [-> | ->]; open_step S; simpl; repeat split; auto; found;
  rewrite (used_hid p _ _ _ L), E, !map_app; simpl; symmetry; apply Permutation_middle.
Qed.

Theorem sorted_out_on_every_trace p b m os : sorted_out (fst (run p (empty b m) os)).
Proof.
  assert (sorted_out (empty b m)) as F by (split; easy).
  revert F. generalize (empty b m). induction os as [|o t IH]; intros st F; [exact F|]. simpl.
  destruct (step p st o) as [st1 a] eqn:S. specialize (IH st1 (retired_are_leased_and_ripe_are_not _ _ _ _ _ F S)).
  destruct (run p st1 t). exact IH.
Qed.
