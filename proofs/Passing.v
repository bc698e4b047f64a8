(** * Passing over leased entries is only a cut in the order

    The model skips leased entries where they stand. [src/cache/core.rs] would then meet them again at every eviction, so it takes
    them out: an entry is queued, passed (found leased by an eviction, with its rank kept), or aside (passed, and
    unleased since). The next victim is the lesser of the head of the queue and the head of what is aside. This file proves that
    the victims and the order are the same.

    [less] compares ranks: the passing number under LRU, (H, ratio, age) under CAMP. All that is asked of it is that it is a strict
    order that does not look at leases. *)

Require Import Victims.

(** Decides equality of multisets of entries, as [multiset] does of numbers. *)
Lemma count_entries a b : Permutation a b -> forall z, count_occ entry_eq_dec a z = count_occ entry_eq_dec b z.
Proof. apply Permutation_count_occ. Qed.
Lemma count_first a l y : count_occ entry_eq_dec (a :: l) y = (count_occ entry_eq_dec [a] y + count_occ entry_eq_dec l y)%nat.
Proof. change (a :: l) with ([a] ++ l). apply count_occ_app. Qed.
Ltac entries :=
  apply (Permutation_count_occ entry_eq_dec); let y := fresh "y" in intros y;
  repeat match goal with H : Permutation _ _ |- _ => apply count_entries with (z := y) in H || clear H end;
  rewrite ?app_nil_r in *; repeat rewrite ?count_occ_app in *;
  repeat match goal with
    | H : context [count_occ entry_eq_dec (?a :: ?l) y] |- _ =>
        lazymatch l with [] => fail | _ => rewrite (count_first a l y) in H end
    | |- context [count_occ entry_eq_dec (?a :: ?l) y] =>
        lazymatch l with [] => fail | _ => rewrite (count_first a l y) end
    end;
  repeat rewrite ?count_occ_app in *; change (count_occ entry_eq_dec [] y) with 0%nat in *; lia.

Section Passing.

Variable less : entry -> entry -> Prop.
Hypothesis less_irrefl : forall a, ~ less a a.
Hypothesis less_trans : forall a b c, less a b -> less b c -> less a c.
Hypothesis less_leases : forall n a b, (less a b <-> less (with_leases n a) b) /\ (less a b <-> less a (with_leases n b)).

Notation sorted := (StronglySorted less).

(** What the Rust keeps: [queued] and [aside] in order; of the passed it knows the rank of each. *)
Record parts := Parts { queued : list entry; passed : list entry; aside : list entry }.

Definition all (r : parts) := queued r ++ passed r ++ aside r.

(** The parts [r] stand for the order [l] of the model. *)
Definition shows (r : parts) (l : list entry) :=
  sorted l /\ Permutation l (all r) /\ sorted (queued r) /\ sorted (aside r) /\
  (forall e, In e (passed r) -> leased e = true) /\ (forall e, In e (aside r) -> leased e = false).

Lemma cons_sorted a t : sorted (a :: t) <-> sorted t /\ forall b, In b t -> less a b.
Proof.
  split.
  - intros S. inversion S as [|? ? St F]; subst. rewrite Forall_forall in F. auto.
  - intros [S F]. constructor; auto. now rewrite Forall_forall.
Qed.

Lemma app_sorted x y : sorted (x ++ y) <-> sorted x /\ sorted y /\ forall a b, In a x -> In b y -> less a b.
Proof.
  induction x as [|a t IH]; simpl.
  - split; [|tauto]. intros S. repeat split; auto; [constructor|easy].
  - rewrite !cons_sorted, IH. split.
    + intros ((A & B & C) & D). repeat split; auto.
      * intros b I. apply D, in_or_app. auto.
      * intros b c [<-|I] J; auto. apply D, in_or_app. auto.
    + intros ((A & D) & B & C). repeat split; auto. intros b I. apply in_app_or in I as [I|I]; auto.
Qed.

(** Lemma: a set of entries can be sorted in one way only, so parts stand for one order only. *)
Lemma sorted_once l : forall l', sorted l -> sorted l' -> Permutation l l' -> l = l'.
Proof.
  induction l as [|a t IH]; intros l' S S' P.
  - now apply Permutation_nil in P.
  - destruct l' as [|b t']; [symmetry in P; now apply Permutation_nil in P|].
    apply cons_sorted in S as [S F]. apply cons_sorted in S' as [S' F'].
    assert (a = b) as <-.
    { assert (In a (b :: t')) as [->|I] by (eapply Permutation_in; [exact P|now left]); auto.
      assert (In b (a :: t)) as [->|J] by (eapply Permutation_in; [symmetry; exact P|now left]); auto.
      destruct (less_irrefl a). eauto. }
    f_equal. apply IH; auto. eapply Permutation_cons_inv, P.
Qed.

Corollary parts_show_one_order r l l' : shows r l -> shows r l' -> l = l'.
Proof.
  intros (S & P & _) (S' & P' & _). apply sorted_once; auto. now rewrite P, P'.
Qed.

(** ** The walk of the Rust ([plan] in [core/room.rs])

    [walk b n A Q V A' Q' P]: looking for [b] bytes and [n] entries with [A] aside and [Q] queued, it finds the victims [V], leaves
    [A'] and [Q'], and has passed [P]. *)

Definition wanting (b n : N) := (b =? 0) && (n =? 0) = false.

Inductive walk : N -> N -> list entry -> list entry -> list entry -> list entry -> list entry -> list entry -> Prop :=
  | enough A Q : walk 0 0 A Q [] A Q []
  | dry b n : wanting b n -> walk b n [] [] [] [] [] []
  | from_aside b n a A Q V A' Q' P :
      wanting b n -> (forall q t, Q = q :: t -> less a q) ->
      walk (b - size a) (n - 1) A Q V A' Q' P -> walk b n (a :: A) Q (a :: V) A' Q' P
  | pass b n q A Q V A' Q' P :
      wanting b n -> (forall a t, A = a :: t -> less q a) -> leased q = true ->
      walk b n A Q V A' Q' P -> walk b n A (q :: Q) V A' Q' (q :: P)
  | from_queue b n q A Q V A' Q' P :
      wanting b n -> (forall a t, A = a :: t -> less q a) -> leased q = false ->
      walk (b - size q) (n - 1) A Q V A' Q' P -> walk b n A (q :: Q) (q :: V) A' Q' P.

(** Theorem: it always comes to an end, as long as ranks can be compared. *)
Theorem the_walk_ends : forall A Q b n, (forall a q, In a A -> In q Q -> less a q \/ less q a) ->
  exists V A' Q' P, walk b n A Q V A' Q' P.
Proof.
  intros A Q. remember (length A + length Q)%nat as m eqn:M. revert A Q M.
  induction m as [|m IH]; intros A Q M b n C; destruct ((b =? 0) && (n =? 0)) eqn:W.
  1, 3: apply andb_true_iff in W as [Wb Wn]; apply N.eqb_eq in Wb, Wn; subst; eauto 6 using enough.
  - destruct A, Q; try discriminate. eauto 6 using dry.
  - destruct A as [|a A], Q as [|q Q]; try discriminate.
    + destruct (leased q) eqn:L.
      * destruct (IH [] Q (f_equal pred M) b n) as (V & A' & Q' & P & H); [easy|].
        exists V, A', Q', (q :: P). apply pass; auto. discriminate.
      * destruct (IH [] Q (f_equal pred M) (b - size q) (n - 1)) as (V & A' & Q' & P & H); [easy|].
        exists (q :: V), A', Q', P. apply from_queue; auto. discriminate.
    + destruct (IH A [] (f_equal pred M) (b - size a) (n - 1)) as (V & A' & Q' & P & H); [easy|].
      exists (a :: V), A', Q', P. apply from_aside; auto. discriminate.
    + destruct (C a q) as [L|L]; [now left|now left| |].
      * destruct (IH A (q :: Q) (f_equal pred M) (b - size a) (n - 1)) as (V & A' & Q' & P & H).
        { intros; apply C; simpl; auto. }
        exists (a :: V), A', Q', P. apply from_aside; auto. now intros ? ? [= <- _].
      * assert (m = length (a :: A) + length Q)%nat as M' by (simpl in *; lia).
        destruct (leased q) eqn:U.
        -- destruct (IH (a :: A) Q M' b n) as (V & A' & Q' & P & H). { intros; apply C; simpl; auto. }
           exists V, A', Q', (q :: P). apply pass; auto. now intros ? ? [= <- _].
        -- destruct (IH (a :: A) Q M' (b - size q) (n - 1)) as (V & A' & Q' & P & H). { intros; apply C; simpl; auto. }
           exists (q :: V), A', Q', P. apply from_queue; auto. now intros ? ? [= <- _].
Qed.

Lemma walk_perm b n A Q V A' Q' P : walk b n A Q V A' Q' P -> Permutation (Q ++ A) (V ++ Q' ++ P ++ A').
Proof.
  induction 1; simpl; auto; entries.
Qed.

Lemma walk_parts b n A Q V A' Q' P : walk b n A Q V A' Q' P ->
  (exists D, Q = D ++ Q') /\ (exists D, A = D ++ A') /\ (forall e, In e P -> leased e = true).
Proof.
  induction 1 as [| | ? ? ? ? ? ? ? ? ? ? ? ? IH|? ? ? ? ? ? ? ? ? ? ? U ? IH|? ? ? ? ? ? ? ? ? ? ? U ? IH].
  - repeat split; [now exists []|now exists []|easy].
  - repeat split; [now exists []|now exists []|easy].
  - destruct IH as ([D ->] & [D' ->] & U). repeat split; auto; [now exists D|now exists (a :: D')].
  - destruct IH as ([D ->] & [D' ->] & U'). repeat split; [now exists (q :: D)|now exists D'|].
    intros e [<-|I]; auto.
  - destruct IH as ([D ->] & [D' ->] & U'). repeat split; auto; [now exists (q :: D)|now exists D'].
Qed.

(** Lemma: leased entries at the front are only skipped. *)
Lemma evict_skips b n x t : (forall e, In e x -> leased e = true) ->
  evict b n (x ++ t) = (x ++ fst (evict b n t), snd (evict b n t)).
Proof.
  intros L. induction x as [|e x IH]; simpl; [now destruct (evict b n t)|].
  destruct ((b =? 0) && (n =? 0)) eqn:Z.
  - apply andb_true_iff in Z as [Zb Zn]. apply N.eqb_eq in Zb, Zn. subst. now rewrite evict_nothing.
  - rewrite (L e) by now left. rewrite IH by (intros; apply L; now right). reflexivity.
Qed.

(** Lemma: the least unleased entry is the first victim. *)
Lemma the_least_is_the_first_victim l b n e : sorted l -> In e l -> leased e = false -> wanting b n ->
  (forall x, In x l -> leased x = false -> x = e \/ less e x) ->
  exists x y, l = x ++ e :: y /\
    snd (evict b n l) = e :: snd (evict (b - size e) (n - 1) (x ++ y)).
Proof.
  intros S I U W M. apply in_split in I as (x & y & ->). exists x, y. split; auto.
  assert (forall a, In a x -> leased a = true) as X.
  { intros a J. destruct (leased a) eqn:La; auto. apply app_sorted in S as (_ & _ & C).
    specialize (C a e J (or_introl eq_refl)).
    destruct (M a) as [->|K]; auto; [apply in_or_app; auto|now apply less_irrefl in C|].
    destruct (less_irrefl a). eauto. }
  rewrite !evict_skips by exact X. simpl. unfold wanting in W. rewrite W, U.
  destruct (evict (b - size e) (n - 1) y). reflexivity.
Qed.

Lemma sorted_without x e y : sorted (x ++ e :: y) -> sorted (x ++ y).
Proof.
  rewrite !app_sorted, cons_sorted. intros (A & (B & _) & C). repeat split; auto. intros a b I J. apply C; simpl; auto.
Qed.

(** Lemma: the victims of the walk are those of the model. *)
Lemma walk_victims b n A Q V A' Q' P : walk b n A Q V A' Q' P ->
  forall l P0, shows (Parts Q P0 A) l -> snd (evict b n l) = V.
Proof.
  induction 1 as [A Q|b n W|b n a A Q V A' Q' P W C H IH|b n q A Q V A' Q' P W C U H IH|b n q A Q V A' Q' P W C U H IH];
  intros l P0 (S & Pm & SQ & SA & LP & UA); unfold all in Pm; simpl in *.
  - now rewrite evict_nothing.
  - rewrite app_nil_r in Pm.
    assert (forall e, In e l -> leased e = true) as L by (intros e I; apply LP; eapply Permutation_in; eauto).
    rewrite <- (app_nil_r l), (evict_skips b n l []) by exact L. reflexivity.
  - apply cons_sorted in SA as [SA FA].
    destruct (the_least_is_the_first_victim l b n a) as (x & y & -> & ->); auto.
    + eapply Permutation_in; [symmetry; exact Pm|]. rewrite !in_app_iff. simpl. auto.
    + intros e I Ue. apply (Permutation_in _ Pm) in I. rewrite !in_app_iff in I. simpl in I.
      destruct I as [I|[I|[<-|I]]]; auto.
      * right. destruct Q as [|q t]; [easy|]. specialize (C q t eq_refl). apply cons_sorted in SQ as [_ FQ].
        destruct I as [<-|I]; eauto.
      * rewrite (LP e I) in Ue. discriminate.
    + f_equal. apply (IH _ P0). repeat split; simpl; auto; [eapply sorted_without; eauto|].
      unfold all. simpl. clear - Pm. entries.
  - apply (IH l (q :: P0)). apply cons_sorted in SQ as [SQ FQ]. repeat split; simpl; auto.
    + unfold all. simpl. clear - Pm. entries.
    + intros e [<-|I]; auto.
  - pose proof SQ as SQ'. apply cons_sorted in SQ' as [SQ' FQ].
    destruct (the_least_is_the_first_victim l b n q) as (x & y & -> & ->); auto.
    + eapply Permutation_in; [symmetry; exact Pm|]. now left.
    + intros e I Ue. apply (Permutation_in _ Pm) in I. simpl in I. rewrite !in_app_iff in I.
      destruct I as [<-|[I|[I|I]]]; auto.
      * rewrite (LP e I) in Ue. discriminate.
      * right. destruct A as [|a t]; [easy|]. specialize (C a t eq_refl). apply cons_sorted in SA as [_ FA].
        destruct I as [<-|I]; eauto.
    + f_equal. apply (IH _ P0). repeat split; simpl; auto; [eapply sorted_without; eauto|].
      unfold all. simpl. clear - Pm. entries.
Qed.

Lemma sorted_kept b n l kept out : evict b n l = (kept, out) -> sorted l -> sorted kept.
Proof.
  revert b n kept out. induction l as [|a t IH]; simpl; intros b n kept out E S.
  - now injection E as <- <-.
  - destruct ((b =? 0) && (n =? 0)); [now injection E as <- <-|]. apply cons_sorted in S as [S F].
    destruct (leased a).
    + destruct (evict b n t) as [k1 o1] eqn:E1. injection E as <- <-. apply cons_sorted. split; eauto.
      intros x I. apply F. eapply Permutation_in; [symmetry; exact (evict_perm _ _ _ _ _ E1)|]. apply in_or_app. auto.
    + destruct (evict (b - size a) (n - 1) t) as [k1 o1] eqn:E1. injection E as <- <-. eauto.
Qed.

(** Theorem: the walk evicts what the model evicts, in the same order, and its parts go on standing for what stays. *)
Theorem the_walk_is_the_models_eviction b n A Q V A' Q' P P0 l :
  walk b n A Q V A' Q' P -> shows (Parts Q P0 A) l ->
  exists kept, evict b n l = (kept, V) /\ shows (Parts Q' (P0 ++ P) A') kept.
Proof.
  intros W Sh. pose proof (walk_victims _ _ _ _ _ _ _ _ W _ _ Sh) as E.
  destruct (evict b n l) as [kept out] eqn:Ev. simpl in E. subst out. exists kept. split; auto.
  destruct Sh as (S & Pm & SQ & SA & LP & UA). unfold all in *. simpl in *.
  destruct (walk_parts _ _ _ _ _ _ _ _ W) as ([D DQ] & [D' DA] & LP').
  repeat split; simpl; auto.
  - eapply sorted_kept; eauto.
  - pose proof (evict_perm _ _ _ _ _ Ev) as K1. pose proof (walk_perm _ _ _ _ _ _ _ _ W) as K2.
    unfold all. simpl. clear - Pm K1 K2. entries.
  - rewrite DQ in SQ. now apply app_sorted in SQ.
  - rewrite DA in SA. now apply app_sorted in SA.
  - intros e I. apply in_app_or in I as [I|I]; auto.
  - intros e I. apply UA. rewrite DA. apply in_or_app. auto.
Qed.

(** ** A refusal ([set_aside])

    If the walk ends dry without enough, what it found goes aside, and the order is as it was. *)

Theorem a_refused_walk_keeps_the_order b n A Q V A' Q' P P0 l A2 :
  walk b n A Q V A' Q' P -> shows (Parts Q P0 A) l ->
  sorted A2 -> Permutation A2 (V ++ A') -> shows (Parts Q' (P0 ++ P) A2) l.
Proof.
  intros W Sh S2 P2. pose proof Sh as (S & Pm & SQ & SA & LP & UA). unfold all in *. simpl in *.
  destruct (walk_parts _ _ _ _ _ _ _ _ W) as ([D DQ] & [D' DA] & LP').
  destruct (the_walk_is_the_models_eviction _ _ _ _ _ _ _ _ _ _ W Sh) as (kept & E & (_ & Pk & _)).
  repeat split; simpl; auto.
  - pose proof (evict_perm _ _ _ _ _ E) as K. unfold all in *. simpl in *. clear - Pk P2 K. entries.
  - rewrite DQ in SQ. now apply app_sorted in SQ.
  - intros e I. apply in_app_or in I as [I|I]; auto.
  - intros e I. apply (Permutation_in _ P2), in_app_or in I as [I|I].
    + now apply (evict_unleased _ _ _ _ _ E).
    + apply UA. rewrite DA. apply in_or_app. auto.
Qed.

(** Theorem: after that every leased resident is passed, so that the same refusal is known from sums alone. *)
Theorem after_a_refusal_all_leased_are_passed b n A Q V A' Q' P P0 l :
  walk b n A Q V A' Q' P -> shows (Parts Q P0 A) l -> ~ (b <= sum size V /\ n <= sum one V) ->
  Q' = [] /\ A' = [] /\ Permutation (filter leased l) (P0 ++ P).
Proof.
  intros W Sh F.
  assert (Q' = [] /\ A' = []) as [-> ->].
  { clear Sh. induction W; simpl in *; auto; try change (one a) with 1 in F; try change (one q) with 1 in F.
    - destruct F. lia.
    - apply IHW. intros [? ?]. apply F. lia.
    - apply IHW. intros [? ?]. apply F. lia. }
  repeat split. destruct (the_walk_is_the_models_eviction _ _ _ _ _ _ _ _ _ _ W Sh) as (kept & E & (_ & Pk & _ & _ & Lk & _)).
  destruct (victims_are_a_prefix _ _ _ _ _ E) as [_ <-]. unfold all in Pk. simpl in *. rewrite app_nil_r in Pk.
  rewrite (filter_perm leased _ _ Pk). rewrite filter_all; auto.
Qed.

(** ** The end of a lease ([released]): a passed entry whose last lease ends goes aside, at its rank *)

Lemma sorted_leases x e y n : sorted (x ++ e :: y) -> sorted (x ++ with_leases n e :: y).
Proof.
  rewrite !app_sorted, !cons_sorted. intros (A & (B & D) & C). repeat split; auto.
  - intros b I. apply (less_leases n e b). auto.
  - intros a b I [<-|J]; [apply (less_leases n a e)|]; apply C; simpl; auto.
Qed.

Theorem a_released_entry_goes_aside x e y px py Q A A2 :
  shows (Parts Q (px ++ e :: py) A) (x ++ e :: y) -> NoDup (map hid (x ++ e :: y)) ->
  sorted A2 -> Permutation A2 (with_leases 0 e :: A) ->
  shows (Parts Q (px ++ py) A2) (x ++ with_leases 0 e :: y).
Proof.
  intros (S & Pm & SQ & SA & LP & UA) D S2 P2. unfold all in *. simpl in *.
  repeat split; simpl; auto.
  - now apply sorted_leases.
  - unfold all. simpl. clear - Pm P2. entries.
  - intros a I. apply LP. rewrite in_app_iff in *. simpl. tauto.
  - intros a I. apply (Permutation_in _ P2) in I as [<-|I]; auto.
Qed.

(** ** A use, wherever the entry was: it leaves its part and joins the queue at its new rank *)

Theorem a_use_joins_the_queue Q P A l Q2 l2 e :
  shows (Parts Q P A) l -> sorted Q2 -> Permutation Q2 (e :: Q) -> sorted l2 -> Permutation l2 (e :: l) ->
  shows (Parts Q2 P A) l2.
Proof.
  intros (S & Pm & SQ & SA & LP & UA) S2 P2 S3 P3. unfold all in *. simpl in *. repeat split; simpl; auto.
  unfold all. simpl. clear - P2 P3 Pm. entries.
Qed.

Theorem an_entry_leaves_its_part x e y r r' :
  shows r (x ++ e :: y) -> Permutation (all r) (e :: all r') ->
  sorted (queued r') -> sorted (aside r') ->
  (forall a, In a (passed r') -> In a (passed r)) -> (forall a, In a (aside r') -> In a (aside r)) ->
  shows r' (x ++ y).
Proof.
  intros (S & Pm & SQ & SA & LP & UA) P SQ' SA' I J. repeat split; auto; [eapply sorted_without; eauto|].
  clear - Pm P. entries.
Qed.

(** ** LRU: what is passed or aside is older than the whole queue

    So the number of a passing orders the passed as their last uses do, and the head of what is aside always wins. *)

Definition cut (A P Q : list entry) := forall a q, In a (A ++ P) -> In q Q -> less a q.

Theorem passing_moves_the_cut b n A Q V A' Q' P P0 :
  walk b n A Q V A' Q' P -> sorted Q -> cut A P0 Q -> cut A' (P0 ++ P) Q'.
Proof.
  intros W. revert P0. induction W; intros P0 SQ C; unfold cut in *; auto.
  - intros x q I J. rewrite app_nil_r in I. auto.
  - easy.
  - apply IHW; auto. intros x q I J. apply C; simpl; auto.
  - apply cons_sorted in SQ as [SQ F].
    assert (forall x y, In x (A' ++ (P0 ++ [q]) ++ P) -> In y Q' -> less x y) as G.
    { apply (IHW (P0 ++ [q]) SQ). intros x y I J. rewrite !in_app_iff in I. simpl in I.
      destruct I as [I|[I|[<-|[]]]]; auto; apply C; rewrite ?in_app_iff; simpl; auto. }
    intros x y I J. apply G; auto. rewrite <- app_assoc. exact I.
  - apply cons_sorted in SQ as [SQ F]. apply IHW; auto. intros x y I J. apply C; simpl; auto.
Qed.

Theorem a_use_keeps_the_cut A P Q e : cut A P Q -> (forall a, In a (A ++ P) -> less a e) -> cut A P (Q ++ [e]).
Proof. intros C L a q I J. apply in_app_or in J as [J|[<-|[]]]; auto. Qed.

End Passing.

(** ** Both policies have such ranks

    An age is the number of a use. It is no field of the model's entries: there the place in the list says it. *)

Require Lru Camp Linear.

Section Ranks.
Variable age : N -> N.    (* of the handle *)

Definition lru_less (a b : entry) := age (hid a) < age (hid b).
Definition camp_less (a b : entry) :=
  Camp.sooner a b = true \/ (prio a = prio b /\ ratio a = ratio b) /\ age (hid a) < age (hid b).

Lemma camp_irrefl a : ~ camp_less a a.
Proof. unfold camp_less. rewrite Camp.sooner_spec. lia. Qed.

Lemma camp_trans a b c : camp_less a b -> camp_less b c -> camp_less a c.
Proof. unfold camp_less. rewrite !Camp.sooner_spec. lia. Qed.

Lemma camp_leases n a b : (camp_less a b <-> camp_less (with_leases n a) b) /\ (camp_less a b <-> camp_less a (with_leases n b)).
Proof. unfold camp_less. rewrite !Camp.sooner_spec. simpl. tauto. Qed.

Theorem under_camp_the_walk_is_the_models_eviction b n A Q V A' Q' P P0 l :
  walk camp_less b n A Q V A' Q' P -> shows camp_less (Parts Q P0 A) l ->
  exists kept, evict b n l = (kept, V) /\ shows camp_less (Parts Q' (P0 ++ P) A') kept.
Proof. apply the_walk_is_the_models_eviction; eauto using camp_irrefl, camp_trans. Qed.

Theorem under_lru_the_walk_is_the_models_eviction b n A Q V A' Q' P P0 l :
  walk lru_less b n A Q V A' Q' P -> shows lru_less (Parts Q P0 A) l ->
  exists kept, evict b n l = (kept, V) /\ shows lru_less (Parts Q' (P0 ++ P) A') kept.
Proof. apply the_walk_is_the_models_eviction; unfold lru_less; intros; lia. Qed.
End Ranks.

(** ** And so have all their orders

    [shows] asks that the order be sorted by the ranks. Whatever LRU or CAMP did before, there are ages by which it is: the places in the
    list. No two entries have one, because each handle is in the cache once. *)

Lemma sorted_implies (R R' : entry -> entry -> Prop) l :
  (forall a b, In a l -> In b l -> R a b -> R' a b) -> StronglySorted R l -> StronglySorted R' l.
Proof.
  intros M S. induction S as [|e t S IH F]; constructor.
  - apply IH. intros; apply M; simpl; auto.
  - rewrite Forall_forall in *. intros b I. apply M; simpl; auto.
Qed.

(** Where a handle stands. *)
Fixpoint rank_in (h : N) (l : list N) : N :=
  match l with [] => 0 | a :: t => if a =? h then 0 else N.succ (rank_in h t) end.

Theorem camp_order_has_ages c l : Camp.in_order c l -> NoDup (map hid l) ->
  StronglySorted (camp_less (fun h => rank_in h (map hid l))) l.
Proof.
  intros [S _] D. induction S as [|e t S IH F]; [constructor|].
  inversion D as [|? ? NI D']; subst. constructor.
  - eapply sorted_implies; [|exact (IH D')]. intros a b I J [H|[H K]]; [now left|right]. split; auto. simpl.
    destruct (N.eqb_spec (hid e) (hid a)) as [E|E]; [elim NI; rewrite E; now apply in_map|].
    destruct (N.eqb_spec (hid e) (hid b)) as [E2|E2]; [elim NI; rewrite E2; now apply in_map|]. lia.
  - rewrite Forall_forall in *. intros b I. specialize (F b I). unfold Camp.before in F. rewrite Camp.sooner_false in F.
    unfold camp_less. rewrite Camp.sooner_spec. simpl. rewrite N.eqb_refl.
    destruct (N.eqb_spec (hid e) (hid b)) as [E2|E2]; [elim NI; rewrite E2; now apply in_map|]. lia.
Qed.

Theorem lru_order_has_ages l : NoDup (map hid l) ->
  StronglySorted (lru_less (fun h => rank_in h (map hid l))) l.
Proof.
  intros D. induction l as [|e t IH]; [constructor|]. inversion D as [|? ? NI D']; subst. constructor.
  - eapply sorted_implies; [|exact (IH D')]. unfold lru_less. intros a b I J K. simpl.
    destruct (N.eqb_spec (hid e) (hid a)) as [E|E]; [elim NI; rewrite E; now apply in_map|].
    destruct (N.eqb_spec (hid e) (hid b)) as [E2|E2]; [elim NI; rewrite E2; now apply in_map|]. lia.
  - rewrite Forall_forall. intros b I. unfold lru_less. simpl. rewrite N.eqb_refl.
    destruct (N.eqb_spec (hid e) (hid b)) as [E2|E2]; [elim NI; rewrite E2; now apply in_map|]. lia.
Qed.

(** Theorem: on every trace that offers each handle once, the parts that a cache starts with, everything queued, show its order; from
    there the theorems above lead on. *)
Theorem every_order_can_be_shown b m os : NoDup (flat_map offered os) ->
  (exists age, let l := order (fst (run Lru.lru (empty b m) os)) in shows (lru_less age) (Parts l [] []) l) /\
  (exists age, let l := order (fst (run Camp.camp (empty b m) os)) in shows (camp_less age) (Parts l [] []) l).
Proof.
  intros D.
  assert (forall less l, StronglySorted less l -> shows less (Parts l [] []) l) as Q.
  { intros less l S. repeat split; simpl; auto; try easy; [|constructor]. unfold all. simpl. now rewrite app_nil_r. }
  split; eexists; cbv zeta; apply Q.
  - apply lru_order_has_ages, Linear.handles_once; auto using Lru.lru_is_lawful.
  - eapply camp_order_has_ages; [apply Camp.camp_is_in_order_on_every_trace|]. apply Linear.handles_once; auto using Camp.camp_is_lawful.
Qed.

(** Theorem: and it is no more than a number: while an entry is out, between the two theorems on a use, it may get a new one, and the parts show what
    they showed. *)
Theorem a_new_age_moves_no_other age age' r l : (forall e, In e l -> age' (hid e) = age (hid e)) ->
  (shows (lru_less age) r l -> shows (lru_less age') r l) /\ (shows (camp_less age) r l -> shows (camp_less age') r l).
Proof.
  intros A.
  assert (forall less less' : entry -> entry -> Prop, (forall a b, In a l -> In b l -> less a b -> less' a b) ->
    shows less r l -> shows less' r l) as W.
  { intros less less' M (S & P & SQ & SA & LP & UA).
    assert (forall e, In e (all r) -> In e l) as I by (intros e; apply Permutation_in; now symmetry).
    unfold all in I. repeat split; auto;
    (eapply sorted_implies; [|eassumption]); intros; apply M; auto; apply I; rewrite !in_app_iff; auto. }
  split; apply W; unfold lru_less, camp_less; intros a b I J; rewrite (A a I), (A b J); auto.
Qed.
