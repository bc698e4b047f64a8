(** * Victims: the shortest prefix of the unleased in policy order

    [evict b n l] walks the order, skips the leased where they stand, and stops as soon as [b] bytes and [n] entries have
    left. *)

Require Export Model.

Lemma filter_unleased_leased l : filter (fun e => negb (leased e)) l = filter unleased l.
Proof. reflexivity. Qed.

(** Whoever stays or leaves was there, and nobody else. *)
Lemma evict_perm l : forall b n kept out, evict b n l = (kept, out) -> Permutation l (kept ++ out).
Proof.
  induction l as [|e t IH]; simpl; intros b n kept out H.
  - injection H as <- <-. reflexivity.
  - destruct ((b =? 0) && (n =? 0)). { injection H as <- <-. now rewrite app_nil_r. }
    destruct (leased e).
    + destruct (evict b n t) as [k1 o1] eqn:E. injection H as <- <-. simpl. now rewrite (IH _ _ _ _ E).
    + destruct (evict (b - size e) (n - 1) t) as [k1 o1] eqn:E. injection H as <- <-.
      rewrite (IH _ _ _ _ E). apply Permutation_middle.
Qed.

(** Theorem: the victims are a prefix of the unleased, in the policy's order, and no leased entry leaves. *)
Theorem victims_are_a_prefix l : forall b n kept out, evict b n l = (kept, out) ->
  filter unleased l = out ++ filter unleased kept /\ filter leased kept = filter leased l.
Proof.
  unfold unleased. induction l as [|e t IH]; simpl; intros b n kept out H.
  - injection H as <- <-. auto.
  - destruct ((b =? 0) && (n =? 0)). { injection H as <- <-. auto. }
    destruct (leased e) eqn:L; simpl.
    + destruct (evict b n t) as [k1 o1] eqn:E. injection H as <- <-. destruct (IH _ _ _ _ E) as [A B].
      simpl. rewrite L. simpl. rewrite B. auto.
    + destruct (evict (b - size e) (n - 1) t) as [k1 o1] eqn:E. injection H as <- <-.
      destruct (IH _ _ _ _ E) as [A B]. simpl. rewrite A. auto.
Qed.

(** Theorem: enough leaves, unless nothing unleased is left. *)
Theorem victims_are_enough l : forall b n kept out, evict b n l = (kept, out) ->
  b <= sum size out /\ n <= sum one out \/ filter unleased kept = [].
Proof.
  unfold unleased. induction l as [|e t IH]; simpl; intros b n kept out H.
  - injection H as <- <-. auto.
  - destruct ((b =? 0) && (n =? 0)) eqn:Z.
    { injection H as <- <-. apply andb_true_iff in Z as [Zb Zn]. apply N.eqb_eq in Zb, Zn. simpl. left; lia. }
    destruct (leased e) eqn:L.
    + destruct (evict b n t) as [k1 o1] eqn:E. injection H as <- <-. simpl. rewrite L. simpl. eauto.
    + destruct (evict (b - size e) (n - 1) t) as [k1 o1] eqn:E. injection H as <- <-. simpl.
      try change (one e) with 1. destruct (IH _ _ _ _ E) as [[A B]|A]; [left; lia|auto].
Qed.

(** Theorem: no shorter prefix would do: without the last victim something would still be missing. *)
Theorem victims_are_the_shortest_prefix l : forall b n kept out v, evict b n l = (kept, out ++ [v]) ->
  sum size out < b \/ sum one out < n.
Proof.
  induction l as [|e t IH]; simpl; intros b n kept out v H.
  - injection H as _ H. symmetry in H. now apply app_eq_nil in H as [_ H].
  - destruct ((b =? 0) && (n =? 0)) eqn:Z.
    { injection H as _ H. symmetry in H. now apply app_eq_nil in H as [_ H]. }
    apply andb_false_iff in Z. rewrite !N.eqb_neq in Z. destruct (leased e).
    + destruct (evict b n t) as [k1 o1] eqn:E. injection H as <- H. subst o1. eauto.
    + destruct (evict (b - size e) (n - 1) t) as [k1 o1] eqn:E. injection H as <- H.
      destruct out as [|a out']; simpl in H; [simpl; lia|].
      injection H as <- H. subst o1. specialize (IH _ _ _ _ _ E). simpl. try change (one e) with 1. lia.
Qed.

Lemma evict_unleased b n l kept out : evict b n l = (kept, out) -> forall e, In e out -> In e l /\ leased e = false.
Proof.
  intros E e I. apply victims_are_a_prefix in E as [A _].
  assert (In e (filter unleased l)) as J by (rewrite A; apply in_or_app; auto).
  apply filter_In in J as [J U]. unfold unleased in U. split; [exact J|]. now apply negb_true_iff.
Qed.

Lemma evict_kept b n l kept out e : evict b n l = (kept, out) -> In e l -> leased e = true -> In e kept.
Proof.
  intros E I L. apply victims_are_a_prefix in E as [_ B].
  assert (In e (filter leased kept)) as J by (rewrite B; now apply filter_In).
  now apply filter_In in J.
Qed.

Lemma evict_nothing l : evict 0 0 l = (l, []).
Proof. destruct l; reflexivity. Qed.

(** ** What [room] promises *)

(** Theorem: what [room] grants fits, beside what stays, in bytes and in entries. *)
Theorem room_fits st limit l b n kept out : room st limit l b n = inr (kept, out) ->
  sum size kept + sum size (retired st) + bytes_reserved (vacancies st) + b <= limit /\
  sum one kept + sum one (retired st) + entries_reserved (vacancies st) + n <= most st.
Proof.
  unfold room, held_bytes, held_entries.
  destruct (limit <? b); [discriminate|].
  destruct (limit <? b + _) eqn:B; [discriminate|]. destruct (most st <? n + _) eqn:M; [discriminate|].
  intros [= E]. apply N.ltb_ge in B, M. pose proof (evict_perm _ _ _ _ _ E) as Q.
  pose proof (sum_perm size _ _ Q) as Qs. pose proof (sum_perm one _ _ Q) as Qo. rewrite sum_app in Qs, Qo.
  destruct (victims_are_enough _ _ _ _ _ E) as [[Lb Ln]|L]; [lia|].
  destruct (victims_are_a_prefix _ _ _ _ _ E) as [_ F].
  pose proof (sum_split size leased kept) as Ks. pose proof (sum_split one leased kept) as Ko.
  rewrite filter_unleased_leased, L, F in Ks, Ko. simpl in Ks, Ko. lia.
Qed.

Lemma room_evicts st limit l b n kept out : room st limit l b n = inr (kept, out) ->
  exists b' n', evict b' n' l = (kept, out).
Proof.
  unfold room. destruct (limit <? b); [discriminate|]. destruct (limit <? b + _); [discriminate|].
  destruct (most st <? n + _); [discriminate|]. intros [= E]. eauto.
Qed.

(** Theorem: the victims are a prefix of the unleased in policy order, and with one victim less either
    the bytes or the entries would not have fitted. *)
Theorem room_takes_the_shortest_prefix st limit l b n kept out : room st limit l b n = inr (kept, out) ->
  filter unleased l = out ++ filter unleased kept /\
  (forall shorter v, out = shorter ++ [v] ->
     limit < sum size l - sum size shorter + sum size (retired st) + bytes_reserved (vacancies st) + b \/
     most st < sum one l - sum one shorter + sum one (retired st) + entries_reserved (vacancies st) + n).
Proof.
  unfold room. destruct (limit <? b); [discriminate|]. destruct (limit <? b + _); [discriminate|].
  destruct (most st <? n + _); [discriminate|]. intros [= E]. split; [apply (victims_are_a_prefix _ _ _ _ _ E)|].
  intros shorter v ->. pose proof (evict_perm _ _ _ _ _ E) as Q.
  pose proof (sum_perm size _ _ Q) as Qs. pose proof (sum_perm one _ _ Q) as Qo. rewrite !sum_app in Qs, Qo.
  apply victims_are_the_shortest_prefix in E. lia.
Qed.

(** Theorem: a refusal for want of room is right: even if everything unleased left, it would not fit. *)
Theorem room_is_refused_only_if_nothing_helps st limit l b n why : room st limit l b n = inl why ->
  limit < b + held_bytes l (retired st) (vacancies st) \/ most st < n + held_entries l (retired st) (vacancies st).
Proof.
  unfold room. destruct (limit <? b) eqn:A; [apply N.ltb_lt in A; left; lia|].
  destruct (limit <? b + _) eqn:B; [apply N.ltb_lt in B; auto|].
  destruct (most st <? n + _) eqn:C; [apply N.ltb_lt in C; auto|discriminate].
Qed.

(** ** Case analysis of a step

    [open_step] turns [step p st o = (st', a)] into its cases, each with what its searches found. *)

Ltac found :=
  repeat match goal with
    | H : find_split _ _ = Some (_, _, _) |- _ =>
        let E := fresh "E" in let F := fresh "F" in let B := fresh "B" in
        apply find_split_some in H as (E & F & B)
    | H : find_split _ _ = None |- _ =>
        let B := fresh "B" in pose proof (find_split_none _ _ H) as B; clear H
    end.

Ltac open_step S :=
  unfold step, get, put in S;
  repeat (match type of S with
    | context [find_split ?f ?l] => destruct (find_split f l) as [[[? ?] ?]|] eqn:?
    | context [match ?v with Vacancy _ _ => _ end] => destruct v as [? [?|]]
    | context [room ?a ?b ?c ?d ?e] => destruct (room a b c d e) as [?|[? ?]] eqn:?
    | context [evict ?a ?b ?c] => destruct (evict a b c) as [? ?] eqn:?
    | context [if ?b then _ else _] => destruct b eqn:?
    end; cbv iota beta zeta in S);
  try (injection S as <- <-).

(** ** The victims of a call

    What a call asks room for: under which budget, among which residents, for how many bytes and entries. An insert asks among all but the
    entry that it replaces, which leaves with it and is no victim. *)

Definition without (k : N) (l : list entry) :=
  match find_split (has_key k) l with Some (x, _, y) => x ++ y | None => l end.

Definition asks (st : state) (o : call) : option (N * list entry * N * N) :=
  match o with
  | Reserve _ bytes => Some (budget st, order st, bytes, 1)
  | Insert k _ bytes _ => Some (budget st, without k (order st), bytes, 1)
  | SetBudget limit => Some (limit, order st, 0, 0)
  | _ => None
  end.

(** It fits without [out]. *)
Definition fits_without (out : list entry) (st : state) (limit : N) (l : list entry) (b n : N) :=
  sum size l - sum size out + sum size (retired st) + bytes_reserved (vacancies st) + b <= limit /\
  sum one l - sum one out + sum one (retired st) + entries_reserved (vacancies st) + n <= most st.

Lemma room_takes_no_more st limit l b n kept out : room st limit l b n = inr (kept, out) ->
  forall shorter v more, out = shorter ++ v :: more -> ~ fits_without shorter st limit l b n.
Proof.
  intros R shorter v more E. destruct (@exists_last _ (v :: more)) as (inner & last & X); [discriminate|].
  rewrite X, app_assoc in E. destruct (room_takes_the_shortest_prefix _ _ _ _ _ _ _ R) as [_ Q]. specialize (Q _ _ E).
  unfold fits_without. rewrite !sum_app in Q. lia.
Qed.

(** Theorem: as its caller sees it. The victims of a call are the shortest prefix of the unleased, in policy order, without which
    what it asked for fits. *)
Theorem a_call_evicts_the_shortest_prefix p st o st' a limit l b n : asks st o = Some (limit, l, b, n) -> step p st o = (st', a) ->
  exists out rest, victims a = map hid out /\ filter unleased l = out ++ rest /\
    (says a = Done -> fits_without out st limit l b n) /\
    (forall shorter v more, out = shorter ++ v :: more -> ~ fits_without shorter st limit l b n).
Proof.
  intros A S.
  assert (victims a = [] /\ says a <> Done \/
    exists kept out, room st limit l b n = inr (kept, out) /\ victims a = map hid out) as [[V D]|(kept & out & R & V)].
  { destruct o; simpl in A; try discriminate; injection A as <- <- <- <-; unfold without in *; open_step S; simpl in *;
    try (left; split; auto; try discriminate; intros ->;
         match goal with R : room _ _ _ _ _ = inl Done |- _ => unfold room in R;
           repeat match type of R with context [if ?x then _ else _] => destruct x end; discriminate end; fail);
    right; eauto. }
  - exists [], (filter unleased l). repeat split; auto; try tauto. intros [|] ? ? E; discriminate.
  - exists out, (filter unleased kept). split; auto. split; [now apply room_takes_the_shortest_prefix in R|].
    split; [|exact (room_takes_no_more _ _ _ _ _ _ _ R)]. intros _. unfold fits_without.
    pose proof (room_fits _ _ _ _ _ _ _ R) as F. destruct (room_evicts _ _ _ _ _ _ _ R) as (b' & n' & E). apply evict_perm in E.
    pose proof (sum_perm size _ _ E) as Es. pose proof (sum_perm one _ _ E) as Eo. rewrite sum_app in Es, Eo. lia.
Qed.

(** Theorem: so are those of [MoreRoom], which has no limit to meet: it frees as many bytes again as were reserved, what is ripe
    included, or all there are. *)
Theorem more_room_evicts_the_shortest_prefix p st k st' a x y bytes :
  find_split (of_key k) (vacancies st) = Some (x, Vacancy k (Some bytes), y) -> step p st (MoreRoom k) = (st', a) ->
  exists out rest, victims a = map hid out /\ filter unleased (order st) = out ++ rest /\
    (bytes <= sum size (ripe st) + sum size out \/ rest = []) /\
    (forall shorter v, out = shorter ++ [v] -> sum size (ripe st) + sum size shorter < bytes).
Proof.
  intros F S. simpl in S. rewrite F in S. destruct (evict (bytes - sum size (ripe st)) 0 (order st)) as [kept out] eqn:E.
  injection S as <- <-. exists out, (filter unleased kept). simpl. repeat split.
  - now apply victims_are_a_prefix in E.
  - destruct (victims_are_enough _ _ _ _ _ E) as [[B _]|L]; [left; lia|now right].
  - intros shorter v ->. apply victims_are_the_shortest_prefix in E. lia.
Qed.

(** Theorem: and no other call has victims. *)
Theorem no_other_call_evicts p st o st' a : asks st o = None -> (forall k, o <> MoreRoom k) -> step p st o = (st', a) -> victims a = [].
Proof.
  intros A M S. destruct o; simpl in A; try discriminate; open_step S; simpl; auto; now destruct (M k).
Qed.
