(** * LRU: the order is the order of the last uses ([src/cache/policy/lru.rs]) *)

Require Import Victims Linear.

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

(** ** Recency is the last lookup, insert or commit *)

(** [thinned a b]: [a] is [b] without some of its elements. *)
Inductive thinned {A} : list A -> list A -> Prop :=
  | thin_nil l : thinned [] l
  | thin_keep x a b : thinned a b -> thinned (x :: a) (x :: b)
  | thin_drop x a b : thinned a b -> thinned a (x :: b).

Lemma thinned_refl {A} (l : list A) : thinned l l.
Proof. induction l; constructor; auto. Qed.

Lemma thinned_app {A} (a b c d : list A) : thinned a b -> thinned c d -> thinned (a ++ c) (b ++ d).
Proof.
  intros T U. induction T as [l| |]; simpl; try (constructor; auto; fail). induction l; simpl; auto. now constructor.
Qed.

Lemma thinned_trans {A} (a b c : list A) : thinned a b -> thinned b c -> thinned a c.
Proof.
  intros T U. revert a T. induction U as [l|x b c U IH|x b c U IH]; intros a T.
  - inversion T. constructor.
  - inversion T; subst; constructor; auto. - constructor; auto.
Qed.

Lemma thinned_in {A} (a b : list A) x : thinned a b -> In x a -> In x b.
Proof. induction 1; simpl; [tauto| |]; intuition. Qed.

Lemma thinned_filter {A} f (a b : list A) : thinned a b -> (forall x, In x a -> f x = true) -> thinned a (filter f b).
Proof.
  induction 1 as [|x a b T IH|x a b T IH]; intros F; [constructor| |]; simpl.
  - rewrite F by now left. constructor. apply IH. intros; apply F. now right.
  - destruct (f x); [constructor|]; auto.
Qed.

Lemma filter_thins {A} f (l : list A) : thinned (filter f l) l.
Proof. induction l as [|x t IH]; simpl; [constructor|]. destruct (f x); constructor; auto. Qed.

Lemma thinned_map {A B} (f : A -> B) a b : thinned a b -> thinned (map f a) (map f b).
Proof. induction 1; simpl; constructor; auto. Qed.

Lemma evict_thins l : forall b n kept out, evict b n l = (kept, out) -> thinned kept l.
Proof.
  induction l as [|e t IH]; simpl; intros b n kept out E; [injection E as <- <-; constructor|].
  destruct ((b =? 0) && (n =? 0)); [injection E as <- <-; apply thinned_refl|]. destruct (leased e).
  - destruct (evict b n t) eqn:F. injection E as <- <-. constructor. eauto.
  - destruct (evict (b - size e) (n - 1) t) eqn:F. injection E as <- <-. constructor. eauto.
Qed.

(** The handle that a call uses, if it uses one. *)
Definition uses (o : call) (v : verdict) : list N :=
  match o, v with _, Hit h => [h] | Insert _ h _ _, Done => [h] | _, _ => [] end.

(** Theorem: what a call uses becomes the most recent; nothing else moves, whatever leaves. *)
Theorem a_call_moves_what_it_uses st o st' a : step lru st o = (st', a) ->
  exists l, map hid (order st') = l ++ uses o (says a) /\ thinned l (map hid (order st)).
Proof.
  intros S. destruct st as [ord ret rip vac bud mx clk].
  assert (forall x e y, thinned (map hid (x ++ y)) (map hid (x ++ e :: y))) as W.
  { intros. apply thinned_map, thinned_app; [apply thinned_refl|]. constructor. apply thinned_refl. }
  destruct o; open_step S; simpl in *; found; subst; unfold used, admitted; simpl;
  repeat match goal with
    | H : room _ _ _ _ _ = inr _ |- _ => let E := fresh "E" in apply room_evicts in H as (? & ? & E)
    | H : evict _ _ _ = _ |- _ => apply evict_thins, (thinned_map hid) in H
    | H : room _ _ _ _ _ = inl ?v |- _ => unfold room in H;
        repeat match type of H with context [if ?x then _ else _] => destruct x end; inversion H; subst; clear H; simpl
    end;
  try (exists []; split; [reflexivity|constructor]);
  try (eexists; split; [symmetry; apply app_nil_r|]; auto using thinned_refl, thinned_map, filter_thins; fail);
  try (eexists; split; [symmetry; apply app_nil_r|]; rewrite ?map_app; simpl; auto using thinned_refl; fail);
  eexists; (split; [rewrite map_app; reflexivity|]); eauto using thinned_refl, thinned_trans.
Qed.

(** All uses of a trace, and their handles, each once, in the order of its last use. *)
Fixpoint all_uses (p : policy) (st : state) (os : list call) : list N :=
  match os with [] => [] | o :: t => let (st', a) := step p st o in uses o (says a) ++ all_uses p st' t end.

Definition by_last_use (us : list N) : list N := fold_left (fun l h => filter (fun g => negb (g =? h)) l ++ [h]) us [].

Lemma run_more p os o : forall st,
  fst (run p st (os ++ [o])) = fst (step p (fst (run p st os)) o) /\
  all_uses p st (os ++ [o]) = all_uses p st os ++ uses o (says (snd (step p (fst (run p st os)) o))).
Proof.
  induction os as [|o' t IH]; intros st; simpl.
  - destruct (step p st o). simpl. now rewrite app_nil_r.
  - destruct (step p st o') as [st1 a]. specialize (IH st1). destruct (run p st1 t), (run p st1 (t ++ [o])). simpl in *.
    destruct IH as [-> ->]. now rewrite app_assoc.
Qed.

(** Theorem: so on every trace the residents stand in the order of their last uses. *)
Theorem the_order_is_that_of_the_last_uses b m os : NoDup (flat_map offered os) ->
  thinned (map hid (order (fst (run lru (empty b m) os)))) (by_last_use (all_uses lru (empty b m) os)).
Proof.
  induction os as [|o os IH] using rev_ind; intros D; [constructor|].
  pose proof (handles_once _ b m _ lru_is_lawful D) as O. destruct (run_more lru os o (empty b m)) as [R U].
  rewrite U. rewrite R in *. rewrite flat_map_app in D.
  assert (NoDup (flat_map offered os)) as D'.
  { clear - D. induction (flat_map offered os) as [|h t IH]; constructor; inversion D; subst; auto.
    intros I. apply H1, in_or_app. auto. }
  specialize (IH D'). destruct (step lru (fst (run lru (empty b m) os)) o) as [st' a] eqn:S. simpl in *.
  destruct (a_call_moves_what_it_uses _ _ _ _ S) as (l & E & T). rewrite E in *.
  pose proof (thinned_trans _ _ _ T IH) as T'. unfold by_last_use in *. rewrite fold_left_app.
  assert (uses o (says a) = [] \/ exists h, uses o (says a) = [h]) as [W | [h W]].
  { destruct o; simpl; destruct (says a); eauto. }
  all: rewrite W in *; simpl in *.
  - now rewrite app_nil_r.
  - apply thinned_app; [|apply thinned_refl]. apply thinned_filter; auto.
    intros x I. apply negb_true_iff, N.eqb_neq. intros ->. apply (NoDup_app_in _ _ h O I). simpl. auto.
Qed.
