(** * Lists: what every later file needs of them

    Nothing here knows what a cache is. *)

From Coq Require Export List NArith Lia Permutation Sorted Bool.
Export ListNotations.
Global Open Scope N_scope.
Global Arguments N.add : simpl never.
Global Arguments N.sub : simpl never.

(** ** The first element with a property, and what stands around it *)

Fixpoint find_split {A} (f : A -> bool) (l : list A) : option (list A * A * list A) :=
  match l with
  | [] => None
  | a :: t =>
      if f a then Some ([], a, t)
      else match find_split f t with
           | Some (before, b, after) => Some (a :: before, b, after)
           | None => None
           end
  end.

Lemma find_split_some {A} (f : A -> bool) l : forall before a after,
  find_split f l = Some (before, a, after) ->
  l = before ++ a :: after /\ f a = true /\ forall b, In b before -> f b = false.
Proof.
  induction l as [|x t IH]; simpl; intros before a after H; [discriminate|].
  destruct (f x) eqn:F.
  - injection H as <- <- <-. simpl. intuition.
  - destruct (find_split f t) as [[[b1 y] a1]|]; [|discriminate].
    injection H as <- <- <-. destruct (IH _ _ _ eq_refl) as (-> & Fy & B).
    repeat split; auto. intros b [<-|I]; auto.
Qed.

Lemma find_split_none {A} (f : A -> bool) l :
  find_split f l = None -> forall b, In b l -> f b = false.
Proof.
  induction l as [|x t IH]; simpl; [tauto|].
  destruct (f x) eqn:F; [discriminate|].
  destruct (find_split f t) as [[[b1 y] a1]|]; [discriminate|].
  intros _ b [<-|I]; auto.
Qed.

(** ** Splitting a list in two by a property *)

Lemma filter_split_perm {A} (f : A -> bool) l :
  Permutation l (filter f l ++ filter (fun a => negb (f a)) l).
Proof.
  induction l as [|a t IH]; simpl; [reflexivity|].
  destruct (f a); simpl; [now constructor|now apply Permutation_cons_app].
Qed.

Lemma filter_ext_in' {A} (f g : A -> bool) l :
  (forall a, In a l -> f a = g a) -> filter f l = filter g l.
Proof.
  induction l as [|a t IH]; simpl; intros E; [reflexivity|].
  rewrite (E a) by auto. rewrite IH by auto. reflexivity.
Qed.

Lemma filter_all {A} (f : A -> bool) l : (forall a, In a l -> f a = true) -> filter f l = l.
Proof.
  induction l as [|a t IH]; simpl; intros E; [reflexivity|].
  rewrite (E a) by auto. now rewrite IH by auto.
Qed.

Lemma filter_nothing {A} (f : A -> bool) l : (forall a, In a l -> f a = false) -> filter f l = [].
Proof.
  induction l as [|a t IH]; simpl; intros E; [reflexivity|].
  rewrite (E a) by auto. now apply IH; auto.
Qed.

Lemma filter_perm {A} (f : A -> bool) l l' : Permutation l l' -> Permutation (filter f l) (filter f l').
Proof.
  induction 1; simpl; auto.
  - destruct (f x); auto.
  - destruct (f x), (f y); auto. apply perm_swap.
  - etransitivity; eassumption.
Qed.

Lemma NoDup_app_in {A} (a b : list A) x : NoDup (a ++ b) -> In x a -> In x b -> False.
Proof.
  induction a as [|y t IH]; simpl; intros D I J; [easy|].
  inversion D as [|? ? N D']; subst. destruct I as [->|I]; [|auto].
  apply N. apply in_or_app. auto.
Qed.

(** ** Sums *)

Fixpoint sum {A} (w : A -> N) (l : list A) : N :=
  match l with [] => 0 | a :: t => w a + sum w t end.

Lemma sum_app {A} (w : A -> N) a b : sum w (a ++ b) = sum w a + sum w b.
Proof. induction a; simpl; lia. Qed.

Lemma sum_perm {A} (w : A -> N) a b : Permutation a b -> sum w a = sum w b.
Proof. induction 1; simpl; lia. Qed.

Lemma sum_split {A} (w : A -> N) (f : A -> bool) l :
  sum w l = sum w (filter f l) + sum w (filter (fun a => negb (f a)) l).
Proof. rewrite <- sum_app. apply sum_perm, filter_split_perm. Qed.

(** ** Multisets of numbers

    Two lists hold the same elements equally often if they are permutations of each other. The tactic [multiset] decides such
    goals from such hypotheses by counting an arbitrary element. *)

Lemma count_cons (a : N) l x :
  count_occ N.eq_dec (a :: l) x = (count_occ N.eq_dec [a] x + count_occ N.eq_dec l x)%nat.
Proof. change (a :: l) with ([a] ++ l). apply count_occ_app. Qed.

Ltac count_step x :=
  repeat rewrite ?map_app, ?count_occ_app in *;
  repeat match goal with
    | H : context [count_occ N.eq_dec (?a :: ?b :: ?l) x] |- _ => rewrite (count_cons a (b :: l) x) in H
    | H : context [count_occ N.eq_dec (?a :: map ?f ?l) x] |- _ => rewrite (count_cons a (map f l) x) in H
    | H : context [count_occ N.eq_dec (?a :: ?l ++ ?m) x] |- _ => rewrite (count_cons a (l ++ m) x) in H
    | |- context [count_occ N.eq_dec (?a :: ?b :: ?l) x] => rewrite (count_cons a (b :: l) x)
    | |- context [count_occ N.eq_dec (?a :: map ?f ?l) x] => rewrite (count_cons a (map f l) x)
    | |- context [count_occ N.eq_dec (?a :: ?l ++ ?m) x] => rewrite (count_cons a (l ++ m) x)
    end;
  repeat rewrite ?map_app, ?count_occ_app in *.

Lemma count_of_perm (a b : list N) : Permutation a b ->
  forall y, count_occ N.eq_dec a y = count_occ N.eq_dec b y.
Proof. apply Permutation_count_occ. Qed.

Ltac multiset :=
  apply (Permutation_count_occ N.eq_dec); let x := fresh "x" in intros x;
  repeat match goal with
    | H : Permutation _ _ |- _ => apply count_of_perm with (y := x) in H || clear H
    end;
  do 3 (cbn [map] in *; count_step x); change (count_occ N.eq_dec [] x) with 0%nat in *; lia.

Lemma count_same (a : N) : count_occ N.eq_dec [a] a = 1%nat.
Proof. simpl. now destruct (N.eq_dec a a). Qed.

Lemma count_other (a b : N) : a <> b -> count_occ N.eq_dec [a] b = 0%nat.
Proof. intros D. simpl. now destruct (N.eq_dec a b). Qed.
