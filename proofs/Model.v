(** * The model: what the cache does, one call at a time

    This is the sequential meaning of [src/cache/core.rs] behind the lock of [src/cache/index.rs], as far as a caller can
    tell. The state is one list of entries in the policy's order, in which the leased stand in their place; the Rust's
    queue, passed and aside (see [Passing.v]) are ways to find the same victims faster.

    Numbers are unbounded here. The Rust computes with [u64]; its sums cannot overflow while the budget is at most the limit
    of a heap, and CAMP's priorities are brought down before theirs do ([Rebase.v]). *)

Require Export Lists.

(** ** State *)

Record entry := Entry {
  key : N;
  hid : N;        (* which handle it holds: never reused *)
  size : N;       (* bytes charged, 0 allowed *)
  cost : N;       (* nanoseconds to make it again; policies may use it *)
  leases : N;
  prio : N;       (* the policy's: CAMP's H *)
  ratio : N       (* the policy's: CAMP's ratio at the last use *)
}.

Definition entry_eq_dec (a b : entry) : {a = b} + {a <> b}.
Proof. decide equality; apply N.eq_dec. Defined.

(** An open vacancy: its key is taken. [None] until bytes are reserved for it. *)
Record vacancy := Vacancy { vkey : N; reserved : option N }.

Record state := State {
  order : list entry;       (* resident, next victim first, the leased in their place *)
  retired : list entry;     (* hidden, still leased *)
  ripe : list entry;        (* hidden, unleased since, in the order in which their last leases ended *)
  vacancies : list vacancy;
  budget : N;               (* in bytes *)
  most : N;                 (* entries at most: resident, retired and reserved together *)
  clock : N                 (* the policy's: CAMP's L *)
}.

Definition empty (b m : N) := State [] [] [] [] b m 0.

Definition leased (e : entry) := 0 <? leases e.
Definition unleased (e : entry) := negb (leased e).
Definition one (_ : entry) : N := 1.
Global Arguments one : simpl never.

Definition with_leases n (e : entry) := Entry (key e) (hid e) (size e) (cost e) n (prio e) (ratio e).
Definition has_key k (e : entry) := key e =? k.
Definition has_hid h (e : entry) := hid e =? h.
Definition of_key k (v : vacancy) := vkey v =? k.

(** What reservations take, in any measure of a reservation. *)
Definition promise (w : N -> N) (v : vacancy) : N :=
  match reserved v with Some bytes => w bytes | None => 0 end.
Definition bytes_reserved := sum (promise (fun bytes => bytes)).
Definition entries_reserved := sum (promise (fun _ => 1)).

(** ** Calls and answers *)

Inductive call :=
  | Get (k : N)                 (* a lease if resident *)
  | Lookup (k : N)              (* a lease, or the vacancy; never waits *)
  | Reserve (k bytes : N)       (* for an open vacancy without a reservation *)
  | Unreserve (k : N)
  | MoreRoom (k : N)            (* evicts once more for a reservation *)
  | Commit (k h bytes c : N)
  | Close (k : N)               (* a filler gives up: drop, error or panic *)
  | Insert (k h bytes c : N)
  | Share (h : N)               (* one lease more, by the holder of one *)
  | Release (h : N)
  | Remove (k : N)
  | Retire (k : N)
  | Collect
  | Clear
  | Drain                       (* the cache ends: all that is unleased leaves *)
  | SetBudget (b : N).

Inductive verdict :=
  | Done | Hit (h : N) | Miss | Opened | Busy
  (* refusals *)
  | Oversize | NoRoom (held : N) | NoEntry | OverReservation | BudgetHeld (held : N) | Leased | BeingFilled
  (* calls that the types of the Rust rule out, and the removal of what is not there *)
  | Absent.

(** What leaves, in the order in which one call hands it out. [back] is the handle of a refused call. *)
Record answer := Answer {
  says : verdict; collected : list N; replaced : list N; victims : list N; back : list N }.

Definition plain v := Answer v [] [] [] [].
Definition returned (a : answer) := collected a ++ replaced a ++ victims a ++ back a.

(** A refused call, and one that finds nothing to do. *)
Definition refusal (v : verdict) : bool :=
  match v with Done | Hit _ | Opened => false | _ => true end.

(** ** A policy is a place in one order *)

Record policy := Policy {
  first_use : N -> entry -> entry;     (* given the clock: notes the use that admits *)
  next_use : N -> entry -> entry;      (* notes each later use *)
  enqueue : entry -> list entry -> list entry;
  evicting : N -> entry -> N           (* the clock after a victim *)
}.

(** What every theorem about the cache asks of it: it marks entries with nothing but [prio] and [ratio], and it loses none. *)
Definition same_entry (a b : entry) :=
  key a = key b /\ hid a = hid b /\ size a = size b /\ cost a = cost b /\ leases a = leases b.

Record lawful (p : policy) : Prop := Lawful {
  first_same : forall c e, same_entry (first_use p c e) e;
  next_same : forall c e, same_entry (next_use p c e) e;
  enqueue_perm : forall e l, Permutation (enqueue p e l) (e :: l)
}.

(** ** Eviction: skip the leased in place, stop as soon as enough left *)

Fixpoint evict (b n : N) (l : list entry) : list entry * list entry :=
  match l with
  | [] => ([], [])
  | e :: t =>
      if (b =? 0) && (n =? 0) then (l, [])
      else if leased e then let (kept, out) := evict b n t in (e :: kept, out)
      else let (kept, out) := evict (b - size e) (n - 1) t in (kept, e :: out)
  end.

(** What no eviction can free: leased, retired and leased, reserved. *)
Definition held_bytes (l r : list entry) (v : list vacancy) :=
  sum size (filter leased l) + sum size r + bytes_reserved v.
Definition held_entries (l r : list entry) (v : list vacancy) :=
  sum one (filter leased l) + sum one r + entries_reserved v.

(** Room for [b] bytes and [n] entries beside the residents [l], under the budget [limit]: refused with a reason, or what
    stays and what leaves. Ripe entries leave anyway. *)
Definition room (st : state) (limit : N) (l : list entry) (b n : N) : verdict + (list entry * list entry) :=
  if limit <? b then inl Oversize
  else if limit <? b + held_bytes l (retired st) (vacancies st)
  then inl (NoRoom (held_bytes l (retired st) (vacancies st)))
  else if most st <? n + held_entries l (retired st) (vacancies st) then inl NoEntry
  else inr (evict (sum size l + sum size (retired st) + bytes_reserved (vacancies st) + b - limit)
                  (sum one l + sum one (retired st) + entries_reserved (vacancies st) + n - most st) l).

(** ** One step *)

Section Step.
Variable p : policy.

Definition after_evicting (c : N) (out : list entry) := fold_left (evicting p) out c.

Definition used (c : N) (e : entry) (l : list entry) :=
  enqueue p (next_use p c (with_leases (N.succ (leases e)) e)) l.

(** A new entry with [n] leases. *)
Definition admitted (c k h bytes cst n : N) (l : list entry) :=
  enqueue p (first_use p c (Entry k h bytes cst n 0 0)) l.

Definition get (st : state) (k : N) : option (state * answer) :=
  match find_split (has_key k) (order st) with
  | Some (x, e, y) =>
      Some (State (used (clock st) e (x ++ y)) (retired st) (ripe st) (vacancies st) (budget st) (most st) (clock st),
            plain (Hit (hid e)))
  | None => None
  end.

Definition put (st : state) (l : list entry) (old : list N) (k h bytes c : N) : state * answer :=
  match room st (budget st) l bytes 1 with
  | inl why => (st, Answer why [] [] [] [h])
  | inr (kept, out) =>
      let c' := after_evicting (clock st) out in
      (State (admitted c' k h bytes c 0 kept) (retired st) [] (vacancies st) (budget st) (most st) c',
       Answer Done (map hid (ripe st)) old (map hid out) [])
  end.

Definition step (st : state) (o : call) : state * answer :=
  match o with
  | Get k =>
      match get st k with Some hit => hit | None => (st, plain Miss) end
  | Lookup k =>
      match get st k with
      | Some hit => hit
      | None =>
          match find_split (of_key k) (vacancies st) with
          | Some _ => (st, plain Busy)
          | None => (State (order st) (retired st) (ripe st) (Vacancy k None :: vacancies st)
                           (budget st) (most st) (clock st), plain Opened)
          end
      end
  | Reserve k bytes =>
      match find_split (of_key k) (vacancies st) with
      | Some (x, Vacancy _ None, y) =>
          match room st (budget st) (order st) bytes 1 with
          | inl why => (st, plain why)
          | inr (kept, out) =>
              (State kept (retired st) [] (x ++ Vacancy k (Some bytes) :: y)
                     (budget st) (most st) (after_evicting (clock st) out),
               Answer Done (map hid (ripe st)) [] (map hid out) [])
          end
      | _ => (st, plain Absent)
      end
  | Unreserve k =>
      match find_split (of_key k) (vacancies st) with
      | Some (x, Vacancy _ (Some _), y) =>
          (State (order st) (retired st) (ripe st) (x ++ Vacancy k None :: y) (budget st) (most st) (clock st), plain Done)
      | _ => (st, plain Absent)
      end
  | MoreRoom k =>
      match find_split (of_key k) (vacancies st) with
      | Some (_, Vacancy _ (Some bytes), _) =>
          let (kept, out) := evict (bytes - sum size (ripe st)) 0 (order st) in
          (State kept (retired st) [] (vacancies st) (budget st) (most st) (after_evicting (clock st) out),
           Answer Done (map hid (ripe st)) [] (map hid out) [])
      | _ => (st, plain Absent)
      end
  | Commit k h bytes c =>
      match find_split (of_key k) (vacancies st) with
      | Some (x, Vacancy _ (Some promised), y) =>
          if promised <? bytes then (st, Answer OverReservation [] [] [] [h])
          else (State (admitted (clock st) k h bytes c 1 (order st)) (retired st) (ripe st) (x ++ y)
                      (budget st) (most st) (clock st), plain (Hit h))
      | _ => (st, Answer Absent [] [] [] [h])
      end
  | Close k =>
      match find_split (of_key k) (vacancies st) with
      | Some (x, _, y) =>
          (State (order st) (retired st) (ripe st) (x ++ y) (budget st) (most st) (clock st), plain Done)
      | None => (st, plain Absent)
      end
  | Insert k h bytes c =>
      match find_split (of_key k) (vacancies st) with
      | Some _ => (st, Answer BeingFilled [] [] [] [h])
      | None =>
          match find_split (has_key k) (order st) with
          | None => put st (order st) [] k h bytes c
          | Some (x, e, y) =>
              if leased e then (st, Answer Leased [] [] [] [h])
              else put st (x ++ y) [hid e] k h bytes c
          end
      end
  | Share h =>
      match find_split (has_hid h) (order st), find_split (has_hid h) (retired st) with
      | Some (x, e, y), _ =>
          if leased e
          then (State (x ++ with_leases (N.succ (leases e)) e :: y) (retired st) (ripe st) (vacancies st)
                      (budget st) (most st) (clock st), plain Done)
          else (st, plain Absent)
      | None, Some (x, e, y) =>
          (State (order st) (x ++ with_leases (N.succ (leases e)) e :: y) (ripe st) (vacancies st)
                 (budget st) (most st) (clock st), plain Done)
      | None, None => (st, plain Absent)
      end
  | Release h =>
      match find_split (has_hid h) (order st), find_split (has_hid h) (retired st) with
      | Some (x, e, y), _ =>
          if leased e
          then (State (x ++ with_leases (N.pred (leases e)) e :: y) (retired st) (ripe st) (vacancies st)
                      (budget st) (most st) (clock st), plain Done)
          else (st, plain Absent)
      | None, Some (x, e, y) =>
          let e' := with_leases (N.pred (leases e)) e in
          if leased e'
          then (State (order st) (x ++ e' :: y) (ripe st) (vacancies st) (budget st) (most st) (clock st), plain Done)
          else (State (order st) (x ++ y) (ripe st ++ [e']) (vacancies st) (budget st) (most st) (clock st), plain Done)
      | None, None => (st, plain Absent)
      end
  | Remove k =>
      match find_split (has_key k) (order st) with
      | Some (x, e, y) =>
          if leased e then (st, plain Leased)
          else (State (x ++ y) (retired st) (ripe st) (vacancies st) (budget st) (most st) (clock st),
                Answer Done [] [hid e] [] [])
      | None => (st, plain Absent)
      end
  | Retire k =>
      match find_split (has_key k) (order st) with
      | Some (x, e, y) =>
          if leased e
          then (State (x ++ y) (retired st ++ [e]) [] (vacancies st) (budget st) (most st) (clock st),
                Answer Done (map hid (ripe st)) [] [] [])
          else (State (x ++ y) (retired st) [] (vacancies st) (budget st) (most st) (clock st),
                Answer Done (map hid (ripe st)) [hid e] [] [])
      | None =>
          (State (order st) (retired st) [] (vacancies st) (budget st) (most st) (clock st),
           Answer Done (map hid (ripe st)) [] [] [])
      end
  | Collect =>
      (State (order st) (retired st) [] (vacancies st) (budget st) (most st) (clock st),
       Answer Done (map hid (ripe st)) [] [] [])
  | Clear =>
      (State [] (retired st ++ filter leased (order st)) [] (vacancies st) (budget st) (most st) (clock st),
       Answer Done (map hid (ripe st)) (map hid (filter unleased (order st))) [] [])
  | Drain =>
      (State (filter leased (order st)) (retired st) [] (vacancies st) (budget st) (most st) (clock st),
       Answer Done (map hid (ripe st)) (map hid (filter unleased (order st))) [] [])
  | SetBudget b =>
      match room st b (order st) 0 0 with
      | inl _ => (st, plain (BudgetHeld (held_bytes (order st) (retired st) (vacancies st))))
      | inr (kept, out) =>
          (State kept (retired st) [] (vacancies st) b (most st) (after_evicting (clock st) out),
           Answer Done (map hid (ripe st)) [] (map hid out) [])
      end
  end.

(** ** Traces *)

Fixpoint run (st : state) (os : list call) : state * list N :=
  match os with
  | [] => (st, [])
  | o :: t => let (st1, a) := step st o in let (st2, out) := run st1 t in (st2, returned a ++ out)
  end.

End Step.

(** The handle that a call offers to the cache. *)
Definition offered (o : call) : list N :=
  match o with Insert _ h _ _ | Commit _ h _ _ => [h] | _ => [] end.

(** Every handle that the cache holds. *)
Definition held (st : state) : list N := map hid (order st) ++ map hid (retired st) ++ map hid (ripe st).

(** What counts against the budget, and against the number of entries. *)
Definition charged (st : state) :=
  sum size (order st) + sum size (retired st) + sum size (ripe st) + bytes_reserved (vacancies st).
Definition counted (st : state) :=
  sum one (order st) + sum one (retired st) + sum one (ripe st) + entries_reserved (vacancies st).
