(** * The suballocator: best fit with immediate merging ([src/suballoc.rs])

    Offsets in, offsets out. The Rust keeps its free spans in two ordered sets; here they are one list by offset, and the choice by
    size is a search. *)

Require Import Lists.

(** A span: its offset and its bytes. *)
Definition span := (N * N)%type.
Definition end_of (s : span) := fst s + snd s.
Definition covers (s : span) (x : N) := fst s <= x < end_of s.
Definition covered (l : list span) (x : N) := exists s, In s l /\ covers s x.

(** ** What it does *)

(** Puts a span before those of [l], merged with the first if they touch. *)
Definition join (s : span) (l : list span) : list span :=
  match l with
  | n :: t => if end_of s =? fst n then (fst s, snd s + snd n) :: t else s :: l
  | [] => [s]
  end.

(** Makes a span free. *)
Fixpoint release (s : span) (l : list span) : list span :=
  match l with
  | [] => [s]
  | f :: t =>
      if end_of f <? fst s then f :: release s t
      else if end_of f =? fst s then join (fst f, snd f + snd s) t
      else join s l
  end.

(** The first multiple of [align] at or after [x]. *)
Definition aligned (x align : N) := (x + align - 1) / align * align.

Definition fits (bytes align : N) (f : span) : bool := aligned (fst f) align + bytes <=? end_of f.

(** Smaller first, and the lower one among equals. *)
Definition better (a b : span) : bool := (snd a <? snd b) || (snd a =? snd b) && (fst a <=? fst b).

Fixpoint best (bytes align : N) (l : list span) : option span :=
  match l with
  | [] => None
  | f :: t =>
      match best bytes align t with
      | Some g => if fits bytes align f && better f g then Some f else Some g
      | None => if fits bytes align f then Some f else None
      end
  end.

Definition piece (from upto : N) : list span := if from <? upto then [(from, upto - from)] else [].

(** Cuts [start, start + bytes) out of the free span [f]. *)
Fixpoint cut_out (f : span) (start bytes : N) (l : list span) : list span :=
  match l with
  | [] => []
  | g :: t =>
      if fst g =? fst f then piece (fst g) start ++ piece (start + bytes) (end_of g) ++ t
      else g :: cut_out f start bytes t
  end.

Definition alloc (bytes align : N) (l : list span) : option (N * list span) :=
  match best bytes align l with
  | Some f => let start := aligned (fst f) align in Some (start, cut_out f start bytes l)
  | None => None
  end.

(** ** Its invariant: by offset, none empty, none touching the next *)

Fixpoint apart_from (bound : option N) (l : list span) : Prop :=
  match l with
  | [] => True
  | f :: t => match bound with Some b => b < fst f | None => True end /\ 0 < snd f /\ apart_from (Some (end_of f)) t
  end.
Definition ordered := apart_from None.

Lemma apart_weaken l : forall b b', apart_from (Some b) l -> b' <= b -> apart_from (Some b') l.
Proof. destruct l; simpl; auto. intros b b' (A & B & C) L. repeat split; auto. lia. Qed.

Lemma apart_none b l : apart_from b l -> apart_from None l.
Proof. destruct l; simpl; tauto. Qed.

Lemma apart_after b l : apart_from (Some b) l -> forall s, In s l -> b < fst s /\ 0 < snd s.
Proof.
  revert b. induction l as [|f t IH]; [easy|]. simpl. intros b (A & B & C) s [<-|I]; auto.
  destruct (IH _ C s I). unfold end_of in *. lia.
Qed.

Lemma covered_cons f t x : covered (f :: t) x <-> covers f x \/ covered t x.
Proof.
  unfold covered. split.
  - intros (s & [<-|I] & C); eauto.
  - intros [C|(s & I & C)]; [exists f|exists s]; simpl; auto.
Qed.

Lemma covered_nil x : covered [] x <-> False.
Proof. unfold covered. split; [now intros (s & I & _)|easy]. Qed.

Lemma covered_app a b x : covered (a ++ b) x <-> covered a x \/ covered b x.
Proof.
  induction a as [|f t IH]; simpl; [rewrite covered_nil; tauto|]. rewrite !covered_cons, IH. tauto.
Qed.

Lemma covered_after b l x : apart_from (Some b) l -> covered l x -> b < x.
Proof. intros A (s & I & C). destruct (apart_after _ _ A s I). unfold covers in C. lia. Qed.

(** ** Freeing *)

Definition disjoint (a b : span) := end_of a <= fst b \/ end_of b <= fst a.

Lemma join_spec s l b : 0 < snd s -> (match b with Some b => b < fst s | None => True end) ->
  ordered l -> (forall f, In f l -> end_of s <= fst f) ->
  apart_from b (join s l) /\ (forall x, covered (join s l) x <-> covers s x \/ covered l x) /\
  sum snd (join s l) = snd s + sum snd l.
Proof.
  intros P B O D. unfold join. destruct l as [|n t]; simpl.
  - repeat split; auto; intros; rewrite ?covered_cons in *; first [tauto | lia].
  - specialize (D n (or_introl eq_refl)). simpl in O. destruct O as (_ & Pn & O).
    destruct (N.eqb_spec (end_of s) (fst n)) as [E|E]; simpl.
    + unfold end_of in *. simpl. repeat split; auto; try lia.
      * eapply apart_weaken; eauto. lia.
      * rewrite !covered_cons. unfold covers, end_of. simpl. intros [C|C]; auto. lia.
      * rewrite !covered_cons. unfold covers, end_of. simpl. intros [C|[C|C]]; auto; left; lia.
    + repeat split; auto; try lia; rewrite (covered_cons s); tauto.
Qed.

(** Theorem: freed, a span is free with all that was, its neighbours are merged with it, and the ledger grows by it. *)
Theorem release_spec s l : forall b, 0 < snd s -> (match b with Some b => b < fst s | None => True end) ->
  apart_from b l -> (forall f, In f l -> disjoint s f) ->
  apart_from b (release s l) /\ (forall x, covered (release s l) x <-> covers s x \/ covered l x) /\
  sum snd (release s l) = snd s + sum snd l.
Proof.
  induction l as [|f t IH]; intros b P B O D; simpl.
  - repeat split; auto; intros; rewrite ?covered_cons in *; first [tauto | lia].
  - pose proof (D f (or_introl eq_refl)) as Df. simpl in O. destruct O as (Bf & Pf & O).
    pose proof (apart_after _ _ O) as Of. unfold disjoint in *.
    destruct (N.ltb_spec (end_of f) (fst s)) as [L|L].
    + destruct (IH (Some (end_of f)) P L O) as (A & C & S). { intros; apply D; now right. }
      simpl. repeat split; auto; try lia; rewrite !covered_cons, C; tauto.
    + destruct (N.eqb_spec (end_of f) (fst s)) as [E|E].
      * destruct (join_spec (fst f, snd f + snd s) t b) as (A & C & S); simpl; auto; try lia.
        { eapply apart_none; eauto. }
        { intros g I. specialize (D g (or_intror I)). specialize (Of g I). unfold end_of in *. simpl. lia. }
        repeat split; auto; try (simpl in S; lia); rewrite C, covered_cons; unfold covers, end_of in *; simpl.
        -- intros [X|X]; auto. destruct (N.lt_ge_cases x (fst s)); [right; left|left]; lia.
        -- intros [X|[X|X]]; auto; left; lia.
      * assert (end_of s <= fst f) as Ef by (unfold end_of in *; lia).
        assert (ordered (f :: t)) as O' by (unfold ordered; simpl; auto).
        assert (forall g, In g (f :: t) -> end_of s <= fst g) as G.
        { intros g [<-|I]; auto. specialize (Of g I). unfold end_of in *. lia. }
        destruct (join_spec s (f :: t) b P B O' G) as (A & C & S). auto.
Qed.

(** ** Allocating *)

Lemma aligned_spec x align : 0 < align ->
  x <= aligned x align /\ (exists k, aligned x align = k * align) /\
  forall y, x <= y -> (exists k, y = k * align) -> aligned x align <= y.
Proof.
  intros P. unfold aligned.
  pose proof (N.div_mod (x + align - 1) align ltac:(lia)) as D.
  pose proof (N.mod_lt (x + align - 1) align ltac:(lia)) as M.
  rewrite (N.mul_comm align) in D.
  generalize dependent ((x + align - 1) mod align). intros m D M.
  set (q := (x + align - 1) / align) in *. repeat split.
  - lia.
  - eauto.
  - intros y L (k & ->). destruct (N.lt_ge_cases k q) as [K|K].
    + assert ((k + 1) * align <= q * align) by (apply N.mul_le_mono_r; lia). lia.
    + apply N.mul_le_mono_r. exact K.
Qed.

Lemma better_total a b : better a b = false -> better b a = true.
Proof.
  unfold better. rewrite orb_false_iff, andb_false_iff, orb_true_iff, andb_true_iff.
  rewrite !N.ltb_ge, !N.ltb_lt, !N.eqb_eq, N.eqb_neq, N.leb_gt, N.leb_le. lia.
Qed.

Lemma better_trans a b c : better a b = true -> better b c = true -> better a c = true.
Proof. unfold better. rewrite !orb_true_iff, !andb_true_iff, !N.ltb_lt, !N.eqb_eq, !N.leb_le. lia. Qed.

Lemma better_refl a : better a a = true.
Proof. unfold better. rewrite orb_true_iff, andb_true_iff, N.eqb_eq, N.leb_le. lia. Qed.

(** Theorem: the span chosen is one that fits, and no other that fits is smaller, nor lower at the same size. *)
Theorem best_fit bytes align l f : best bytes align l = Some f ->
  In f l /\ fits bytes align f = true /\
  forall g, In g l -> fits bytes align g = true -> snd f < snd g \/ snd f = snd g /\ fst f <= fst g.
Proof.
  assert (forall f, best bytes align l = Some f -> In f l /\ fits bytes align f = true /\
    forall g, In g l -> fits bytes align g = true -> better f g = true) as H.
  { induction l as [|h t IH]; simpl; [discriminate|]. intros f' B.
    destruct (best bytes align t) as [g0|] eqn:T.
    - destruct (IH g0 eq_refl) as (I & F & M). destruct (fits bytes align h && better h g0) eqn:C.
      + injection B as <-. apply andb_true_iff in C as [C1 C2]. repeat split; auto.
        intros g [<-|J] G; eauto using better_refl, better_trans.
      + injection B as <-. repeat split; auto. intros g [<-|J] G; auto.
        apply andb_false_iff in C as [C|C]; [congruence|]. now apply better_total.
    - destruct (fits bytes align h) eqn:Fh; [|discriminate]. injection B as <-. repeat split; auto.
      intros g [<-|J] G; [apply better_refl|]. exfalso. clear IH. revert T J G. clear.
      induction t as [|h t IH]; simpl; [easy|]. intros T [->|J] G.
      + destruct (best bytes align t); [destruct (_ && _)|rewrite G in T]; discriminate.
      + destruct (best bytes align t); [destruct (_ && _); discriminate|auto]. }
  intros B. destruct (H f B) as (I & F & M). repeat split; auto. intros g J G. specialize (M g J G).
  unfold better in M. rewrite orb_true_iff, andb_true_iff, N.ltb_lt, N.eqb_eq, N.leb_le in M. exact M.
Qed.

Lemma best_none bytes align l : best bytes align l = None -> forall f, In f l -> fits bytes align f = false.
Proof.
  induction l as [|h t IH]; simpl; [easy|]. intros B f I.
  destruct (best bytes align t); [destruct (_ && _); discriminate|].
  destruct (fits bytes align h) eqn:F; [discriminate|]. destruct I as [<-|I]; auto.
Qed.

(** Lemma: free spans do not touch, so a run of free units lies in one of them. *)
Lemma a_run_is_in_one_span l : forall b, apart_from b l -> forall n s,
  (forall x, s <= x < s + n -> covered l x) -> 0 < n -> exists f, In f l /\ fst f <= s /\ s + n <= end_of f.
Proof.
  induction l as [|f t IH]; intros b O n s C P.
  - exfalso. apply (covered_nil s), C. lia.
  - simpl in O. destruct O as (B & Pf & O).
    destruct (N.lt_ge_cases s (end_of f)) as [L|L].
    + exists f. simpl. split; auto. assert (covers f s) as Cs.
      { destruct (proj1 (covered_cons _ _ _) (C s ltac:(lia))) as [Cs|Cs]; auto.
        apply (covered_after _ _ _ O) in Cs. lia. }
      split; [apply Cs|]. destruct (N.le_gt_cases (s + n) (end_of f)) as [G|G]; auto. exfalso.
      destruct (proj1 (covered_cons _ _ _) (C (end_of f) ltac:(lia))) as [Ce|Ce].
      * unfold covers in Ce. lia.
      * apply (covered_after _ _ _ O) in Ce. lia.
    + destruct (IH _ O n s) as (g & I & G); auto.
      * intros x X. destruct (proj1 (covered_cons _ _ _) (C x X)) as [Cx|Cx]; auto. unfold covers in Cx. lia.
      * exists g. simpl. auto.
Qed.

(** Theorem: refused only if no run of free units, however it came to be free, holds the bytes at the alignment. *)
Theorem refused_only_if_nothing_fits bytes align l : ordered l -> 0 < bytes -> 0 < align ->
  alloc bytes align l = None -> forall k, ~ (forall x, k * align <= x < k * align + bytes -> covered l x).
Proof.
  intros O P A R k C. unfold alloc in R. destruct (best bytes align l) eqn:B; [discriminate|].
  destruct (a_run_is_in_one_span l None O bytes (k * align) C P) as (f & I & L & U).
  pose proof (best_none _ _ _ B f I) as F. unfold fits in F. apply N.leb_gt in F.
  destruct (aligned_spec (fst f) align A) as (_ & _ & M). specialize (M (k * align) L ltac:(eauto)). lia.
Qed.

Lemma piece_spec from upto : (forall x, covered (piece from upto) x <-> from <= x < upto) /\
  sum snd (piece from upto) = upto - from.
Proof.
  unfold piece. destruct (N.ltb_spec from upto) as [L|L]; split; intros; rewrite ?covered_cons, ?covered_nil;
  unfold covers, end_of; simpl; lia.
Qed.

Lemma cut_out_spec f start bytes l : forall b, apart_from b l -> In f l -> 0 < bytes ->
  fst f <= start -> start + bytes <= end_of f ->
  apart_from b (cut_out f start bytes l) /\
  (forall x, covered (cut_out f start bytes l) x <-> covered l x /\ ~ covers (start, bytes) x) /\
  sum snd (cut_out f start bytes l) + bytes = sum snd l.
Proof.
  induction l as [|g t IH]; intros b O I P L U; [easy|]. simpl in O. destruct O as (B & Pg & O). simpl.
  destruct (N.eqb_spec (fst g) (fst f)) as [E|E].
  - assert (g = f) as ->.
    { destruct I as [->|I]; auto. destruct (apart_after _ _ O f I). unfold end_of in *. lia. }
    destruct (piece_spec (fst f) start) as [C1 S1]. destruct (piece_spec (start + bytes) (end_of f)) as [C2 S2].
    split; [|split].
    + unfold piece. destruct (N.ltb_spec (fst f) start) as [K1|K1]; destruct (N.ltb_spec (start + bytes) (end_of f)) as [K2|K2]; simpl;
        unfold end_of in *; simpl; repeat split; try lia; try assumption; try exact Logic.I;
        try (destruct b; [lia|exact Logic.I]); try (eapply apart_weaken; [exact O|lia]).
      destruct b; [eapply apart_weaken; [exact O|lia]|eapply apart_none; exact O].
    + intros x. rewrite !covered_app, C1, C2, covered_cons. pose proof (covered_after _ _ x O) as W.
      unfold covers, end_of in *. simpl in *. split.
      * intros [X|[X|X]]; [split; [left|]; lia|split; [left|]; lia|]. specialize (W X). split; auto. lia.
      * intros [[X|X] N]; auto. lia.
    + rewrite !sum_app, S1, S2. unfold end_of in *. lia.
  - destruct I as [->|I]; [congruence|]. destruct (IH _ O I P L U) as (A & C & S). simpl. split; [|split]; auto.
    + intros x. rewrite !covered_cons, C. split; [|tauto]. intros [X|X]; [|tauto]. split; auto.
      destruct (apart_after _ _ O f I). unfold covers, end_of in *. simpl. lia.
    + lia.
Qed.

(** Theorem: what is allocated was free, is free no more, starts at the alignment, and is what the ledger goes down by. *)
Theorem alloc_spec bytes align l start l' : ordered l -> 0 < bytes -> 0 < align -> alloc bytes align l = Some (start, l') ->
  ordered l' /\ (exists k, start = k * align) /\
  (forall x, covers (start, bytes) x -> covered l x) /\
  (forall x, covered l' x <-> covered l x /\ ~ covers (start, bytes) x) /\
  sum snd l' + bytes = sum snd l.
Proof.
  intros O P A S. unfold alloc in S. destruct (best bytes align l) as [f|] eqn:B; [|discriminate].
  injection S as <- <-. apply best_fit in B as (I & F & _). unfold fits in F. apply N.leb_le in F.
  destruct (aligned_spec (fst f) align A) as (L & K & _).
  destruct (cut_out_spec f (aligned (fst f) align) bytes l None O I P L F) as (O' & C & S). split; [exact O'|].
  split; [exact K|]. split; [|now split].
  intros x X. exists f. split; auto. unfold covers, end_of in *. simpl in *. lia.
Qed.

(** ** Traces *)

Record arena := Arena { free : list span; live : list span; given : N }.

Inductive request :=
  | Add (s : span)            (* a new region, disjoint from all there is *)
  | Alloc (bytes align : N)
  | Free (s : span)           (* of a live span *)
  | Withdraw (s : span).      (* a region that is wholly free, and stands alone *)

Inductive reply := At (offset : N) | Refused | Ok.

Definition disjointb (a b : span) : bool := (end_of a <=? fst b) || (end_of b <=? fst a).
Definition is_span (s a : span) : bool := (fst a =? fst s) && (snd a =? snd s).

Definition serve (st : arena) (r : request) : arena * reply :=
  match r with
  | Add s =>
      if (0 <? snd s) && forallb (disjointb s) (free st ++ live st)
      then (Arena (release s (free st)) (live st) (given st + snd s), Ok) else (st, Refused)
  | Alloc bytes align =>
      if (0 <? bytes) && (0 <? align)
      then match alloc bytes align (free st) with
           | Some (start, l) => (Arena l ((start, bytes) :: live st) (given st), At start)
           | None => (st, Refused)
           end
      else (st, Refused)
  | Free s =>
      match find_split (is_span s) (live st) with
      | Some (x, _, y) => (Arena (release s (free st)) (x ++ y) (given st), Ok)
      | None => (st, Refused)
      end
  | Withdraw s =>
      match find_split (is_span s) (free st) with
      | Some (x, _, y) => (Arena (x ++ y) (live st) (given st - snd s), Ok)
      | None => (st, Refused)
      end
  end.

Fixpoint serve_all (st : arena) (rs : list request) : arena :=
  match rs with [] => st | r :: t => serve_all (fst (serve st r)) t end.

Fixpoint pairwise (l : list span) : Prop :=
  match l with [] => True | a :: t => (forall b, In b t -> disjoint a b) /\ pairwise t end.

Definition sound (st : arena) :=
  ordered (free st) /\ pairwise (live st) /\
  (forall s, In s (live st) -> 0 < snd s /\ forall x, covers s x -> ~ covered (free st) x) /\
  sum snd (free st) + sum snd (live st) = given st.

Lemma pairwise_split x s y : pairwise (x ++ s :: y) ->
  pairwise (x ++ y) /\ forall a, In a (x ++ y) -> disjoint s a.
Proof.
  induction x as [|a t IH]; simpl.
  - intros [A B]. auto.
  - intros [A B]. destruct (IH B) as [C D]. split.
    + split; auto. intros b I. apply A. apply in_app_or in I as [I|I]; apply in_or_app; simpl; auto.
    + intros b [<-|I]; auto. assert (disjoint a s) by (apply A, in_or_app; simpl; auto). unfold disjoint in *. tauto.
Qed.

Lemma disjointb_spec a b : disjointb a b = true -> disjoint a b.
Proof. unfold disjointb, disjoint. rewrite orb_true_iff, !N.leb_le. tauto. Qed.

Lemma is_span_spec s a : is_span s a = true -> a = s.
Proof. unfold is_span. rewrite andb_true_iff, !N.eqb_eq. destruct s, a. simpl. now intros [-> ->]. Qed.

Lemma uncovered_disjoint s l : 0 < snd s -> (forall f, In f l -> 0 < snd f) -> (forall x, covers s x -> ~ covered l x) ->
  forall f, In f l -> disjoint s f.
Proof.
  intros P F C f I. unfold disjoint. specialize (F f I).
  destruct (N.le_gt_cases (end_of s) (fst f)); auto. destruct (N.le_gt_cases (end_of f) (fst s)); auto. exfalso.
  destruct (N.le_gt_cases (fst s) (fst f)).
  - apply (C (fst f)); [unfold covers; lia|]. exists f. unfold covers, end_of. split; auto. lia.
  - apply (C (fst s)); [unfold covers, end_of; lia|]. exists f. unfold covers. split; auto. lia.
Qed.

Lemma ordered_positive l b : apart_from b l -> forall f, In f l -> 0 < snd f.
Proof. revert b. induction l as [|g t IH]; [easy|]. simpl. intros b (A & B & C) f [<-|I]; eauto. Qed.

Lemma ordered_without x s y b : apart_from b (x ++ s :: y) ->
  apart_from b (x ++ y) /\ (forall z, covered (x ++ y) z -> covered (x ++ s :: y) z).
Proof.
  intros O. split.
  - revert b O. induction x as [|a t IH]; simpl; intros b (A & B & C).
    + destruct b; [eapply apart_weaken; eauto; unfold end_of; lia|eapply apart_none; eauto].
    + auto.
  - intros z. rewrite !covered_app, covered_cons. tauto.
Qed.

(** Theorem: live spans never overlap each other or what is free, and the ledger adds up, after every request. *)
Theorem sound_after_every_request st r st' a : sound st -> serve st r = (st', a) -> sound st'.
Proof.
  intros (O & Pw & Dj & Sm) S. destruct r as [s|bytes align|s|s]; simpl in S.
  - destruct ((0 <? snd s) && _) eqn:G; injection S as <- <-; [|repeat split; auto; now apply Dj].
    apply andb_true_iff in G as [P D]. apply N.ltb_lt in P. rewrite forallb_forall in D.
    destruct (release_spec s (free st) None P Logic.I O) as (O' & C & S).
    { intros f I. apply disjointb_spec, D, in_or_app. auto. }
    repeat split; simpl; auto; try lia.
    + now apply Dj.
    + intros x X H1. apply C in H1 as [H1|H1]; [|now apply (proj2 (Dj s0 H) x X)].
      assert (disjoint s s0) as W by (apply disjointb_spec, D, in_or_app; auto).
      unfold disjoint, covers in *. lia.
  - destruct ((0 <? bytes) && (0 <? align)) eqn:G; [|injection S as <- <-; repeat split; auto; now apply Dj].
    apply andb_true_iff in G as [P A]. apply N.ltb_lt in P, A.
    destruct (alloc bytes align (free st)) as [[start l]|] eqn:E; injection S as <- <-; [|repeat split; auto; now apply Dj].
    destruct (alloc_spec _ _ _ _ _ O P A E) as (O' & _ & W & C & S). repeat split; simpl; auto; try lia.
    + intros b I. apply (uncovered_disjoint (start, bytes) (live st)); auto.
      * intros f J. now apply Dj.
      * intros x X (f & J & Y). now apply (proj2 (Dj f J) x Y), W.
    + destruct H as [<-|H]; simpl; auto. now apply Dj.
    + destruct H as [<-|H]; intros x X Y; apply C in Y as [Y Z]; auto. now apply (proj2 (Dj s H) x X).
  - destruct (find_split (is_span s) (live st)) as [[[x s'] y]|] eqn:F; injection S as <- <-;
      [|repeat split; auto; now apply Dj].
    apply find_split_some in F as (E & Q & _). apply is_span_spec in Q as ->. rewrite E in *.
    destruct (pairwise_split _ _ _ Pw) as [Pw' Ds]. destruct (Dj s) as [P U]; [apply in_or_app; simpl; auto|].
    destruct (release_spec s (free st) None P Logic.I O) as (O' & C & S).
    { apply uncovered_disjoint; auto. exact (ordered_positive _ _ O). }
    assert (forall a, In a (x ++ y) -> In a (x ++ s :: y)) as Sub.
    { intros b I. apply in_app_or in I as [I|I]; apply in_or_app; simpl; auto. }
    repeat split; simpl; auto.
    + now apply Dj, Sub.
    + intros z X Y. apply C in Y as [Y|Y]; [|now apply (proj2 (Dj s0 (Sub _ H)) z X)].
      specialize (Ds s0 H). unfold disjoint, covers in *. lia.
    + rewrite S. rewrite sum_app in *. simpl in Sm. lia.
  - destruct (find_split (is_span s) (free st)) as [[[x s'] y]|] eqn:F; injection S as <- <-;
      [|repeat split; auto; now apply Dj].
    apply find_split_some in F as (E & Q & _). apply is_span_spec in Q as ->. rewrite E in *.
    destruct (ordered_without _ _ _ _ O) as [O' Cv].
    repeat split; simpl; auto.
    + now apply Dj.
    + intros z X Y. apply (proj2 (Dj s0 H) z X). auto.
    + rewrite sum_app in *. simpl in Sm. lia.
Qed.

Theorem sound_on_every_trace rs : sound (serve_all (Arena [] [] 0) rs).
Proof.
  assert (sound (Arena [] [] 0)) as S by (repeat split; simpl; easy).
  revert S. generalize (Arena [] [] 0). induction rs as [|r t IH]; intros st S; simpl; auto.
  apply IH. destruct (serve st r) as [st' a] eqn:E. eapply sound_after_every_request; eauto.
Qed.

(** Theorem: no two free spans touch, after every request: freed neighbours have merged. *)
Theorem freed_neighbours_have_merged rs a b : let st := serve_all (Arena [] [] 0) rs in
  In a (free st) -> In b (free st) -> end_of a <> fst b.
Proof.
  intros st I J. destruct (sound_on_every_trace rs) as (O & _). fold st in O. unfold ordered in O.
  revert O I J. generalize (@None N). induction (free st) as [|f t IH]; intros bd O I J; [easy|].
  simpl in O. destruct O as (B & P & O). pose proof (apart_after _ _ O) as F. unfold end_of in *.
  destruct I as [<-|I], J as [<-|J]; eauto; try lia.
  - specialize (F b J). lia.
  - specialize (F a I). lia.
Qed.

(** ** The requests, as their caller sees them

    An arena that refused everything would be sound, too. What is granted, and what it does: *)

(** Theorem: an allocation is refused exactly if no run of free units, however it came to be free, holds it. *)
Theorem an_allocation_is_refused_iff st bytes align : sound st -> 0 < bytes -> 0 < align ->
  (snd (serve st (Alloc bytes align)) = Refused <->
   forall k, ~ (forall x, k * align <= x < k * align + bytes -> covered (free st) x)).
Proof.
  intros (O & _) P A. simpl. rewrite (proj2 (N.ltb_lt _ _) P), (proj2 (N.ltb_lt _ _) A). simpl.
  destruct (alloc bytes align (free st)) as [[start l]|] eqn:E; simpl.
  - split; [discriminate|]. intros N. destruct (alloc_spec _ _ _ _ _ O P A E) as (_ & (k & ->) & C & _).
    elim (N k). intros x X. apply C. exact X.
  - split; auto. intros _. eapply refused_only_if_nothing_fits; eauto.
Qed.

(** Theorem: what is granted is the lowest place at its alignment in the best of the spans, live from then on, and free no more. *)
Theorem an_allocation_is_a_best_fit st bytes align st' start : sound st -> serve st (Alloc bytes align) = (st', At start) ->
  (exists f, In f (free st) /\ fits bytes align f = true /\ start = aligned (fst f) align /\
     forall g, In g (free st) -> fits bytes align g = true -> snd f < snd g \/ snd f = snd g /\ fst f <= fst g) /\
  live st' = (start, bytes) :: live st /\
  forall x, covered (free st') x <-> covered (free st) x /\ ~ covers (start, bytes) x.
Proof.
  intros (O & _) S. simpl in S. destruct ((0 <? bytes) && (0 <? align)) eqn:G; [|discriminate].
  apply andb_true_iff in G as [P A]. apply N.ltb_lt in P, A.
  destruct (alloc bytes align (free st)) as [[at_ l]|] eqn:E; [|discriminate]. injection S as <- <-. split; [|split; auto].
  - unfold alloc in E. destruct (best bytes align (free st)) as [f|] eqn:B; [|discriminate]. injection E as <- _.
    destruct (best_fit _ _ _ _ B) as (I & F & M). exists f. auto.
  - now destruct (alloc_spec _ _ _ _ _ O P A E) as (_ & _ & _ & C & _).
Qed.

Lemma found_span s l : In s l -> exists x y, find_split (is_span s) l = Some (x, s, y) /\ l = x ++ s :: y.
Proof.
  intros I. destruct (find_split (is_span s) l) as [[[x a] y]|] eqn:F.
  - apply find_split_some in F as (E & Q & _). apply is_span_spec in Q as ->. eauto.
  - pose proof (find_split_none _ _ F s I) as Q. unfold is_span in Q. now rewrite !N.eqb_refl in Q.
Qed.

(** Theorem: what is live can be freed, is free then, and live no more. *)
Theorem what_is_live_can_be_freed st s : sound st -> In s (live st) -> let (st', a) := serve st (Free s) in
  a = Ok /\ Permutation (live st) (s :: live st') /\ given st' = given st /\
  forall x, covered (free st') x <-> covers s x \/ covered (free st) x.
Proof.
  intros (O & _ & Dj & _) I. destruct (found_span s (live st) I) as (x & y & F & E). simpl. rewrite F. simpl.
  destruct (Dj s I) as [P U]. split; auto. split; [rewrite E; symmetry; apply Permutation_middle|]. split; auto.
  destruct (release_spec s (free st) None P Logic.I O) as (_ & C & _); auto.
  apply uncovered_disjoint; auto. exact (ordered_positive _ _ O).
Qed.

(** Theorem: a region is taken in if it overlaps nothing, and given back exactly if it stands free and alone. *)
Theorem a_region_comes_and_goes st s : sound st ->
  (0 < snd s -> (forall f, In f (free st ++ live st) -> disjoint s f) -> let (st', a) := serve st (Add s) in
     a = Ok /\ live st' = live st /\ given st' = given st + snd s /\ forall x, covered (free st') x <-> covers s x \/ covered (free st) x) /\
  (snd (serve st (Withdraw s)) = Ok <-> In s (free st)) /\
  (In s (free st) -> let st' := fst (serve st (Withdraw s)) in
     live st' = live st /\ given st' + snd s = given st /\ forall x, covered (free st') x <-> covered (free st) x /\ ~ covers s x).
Proof.
  intros (O & _ & _ & Sm). split; [|split].
  - intros P D. simpl. rewrite (proj2 (N.ltb_lt _ _) P).
    replace (forallb (disjointb s) (free st ++ live st)) with true.
    + simpl. destruct (release_spec s (free st) None P Logic.I O) as (_ & C & _); auto.
      intros f I. apply D, in_or_app. auto.
    + symmetry. apply forallb_forall. intros f I. unfold disjointb. rewrite orb_true_iff, !N.leb_le. now apply D.
  - simpl. split.
    + destruct (find_split (is_span s) (free st)) as [[[x a] y]|] eqn:F; [|discriminate]. intros _.
      apply find_split_some in F as (E & Q & _). apply is_span_spec in Q as ->. rewrite E. apply in_or_app. simpl. auto.
    + intros I. destruct (found_span s (free st) I) as (x & y & F & _). now rewrite F.
  - intros I. destruct (found_span s (free st) I) as (x & y & F & E). simpl. rewrite F. simpl.
    split; auto. rewrite E in *. rewrite sum_app in Sm. simpl in Sm. split; [lia|].
    intros z. rewrite !covered_app, covered_cons. unfold ordered in O.
    assert (covered x z \/ covered y z -> ~ covers s z) as N; [|tauto].
    clear - O. revert O. generalize (@None N). induction x as [|f t IH]; simpl; intros b (B & P & O) C.
    + destruct C as [C|C]; [now apply covered_nil in C|]. apply (covered_after _ _ _ O) in C. unfold covers. lia.
    + rewrite covered_cons in C. destruct C as [[C|C]|C]; eauto.
      assert (end_of f < fst s) by (eapply apart_after; [exact O|apply in_or_app; simpl; auto]).
      unfold covers in *. lia.
Qed.
