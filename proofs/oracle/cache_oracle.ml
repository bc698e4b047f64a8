(* Drives the extracted model through the traces that tests compare the Rust with. Nothing here decides what a cache does: it names
   handles, remembers who holds leases and vacancies, and prints. *)

open Cache_model
open Common

let rec positive i = if i = 1 then XH else if i land 1 = 1 then XI (positive (i lsr 1)) else XO (positive (i lsr 1))
let number i = if i = 0 then N0 else Npos (positive i)
let rec of_positive = function XH -> 1 | XO p -> 2 * of_positive p | XI p -> 2 * of_positive p + 1
let int_of = function N0 -> 0 | Npos p -> of_positive p

(* ---- What a trace is made of. Leases are named by their place among those held, oldest first. ---- *)

type op =
  | OGet of int | OLookup of int | OReserve of int * int | OUnreserve of int | OMoreRoom of int
  | OCommit of int * int * int | OClose of int | OInsert of int * int * int
  | OShare of int | ORelease of int | ORemove of int | ORetire of int
  | OCollect | OClear | ODrain | OSetBudget of int

let show = Printf.sprintf
let text_of = function
  | OGet k -> show "get %d" k
  | OLookup k -> show "lookup %d" k
  | OReserve (k, b) -> show "reserve %d %d" k b
  | OUnreserve k -> show "unreserve %d" k
  | OMoreRoom k -> show "more-room %d" k
  | OCommit (k, b, c) -> show "commit %d %d %d" k b c
  | OClose k -> show "close %d" k
  | OInsert (k, b, c) -> show "insert %d %d %d" k b c
  | OShare i -> show "share %d" i
  | ORelease i -> show "release %d" i
  | ORemove k -> show "remove %d" k
  | ORetire k -> show "retire %d" k
  | OCollect -> "collect"
  | OClear -> "clear"
  | ODrain -> "drain"
  | OSetBudget b -> show "set-budget %d" b

(* ---- A session: the model's state, and what the caller holds ---- *)

type tally = { hits : int; misses : int; evictions : int; rejections : int }
type session = { policy : policy; state : state; held : int list; (* leases, oldest first *) next : int; (* handle *) tally : tally }

let open_session policy budget most =
  { policy; state = empty (number budget) (number most); held = []; next = 1;
    tally = { hits = 0; misses = 0; evictions = 0; rejections = 0 } }

(* Which calls the Rust can make at all: the others do not type-check there, or have nobody to make them. *)
let vacancy session k = List.find_opt (fun v -> int_of v.vkey = k) session.state.vacancies
let reservation session k = match vacancy session k with Some { reserved = Some b; _ } -> Some (int_of b) | _ -> None
let possible session = function
  | OShare i | ORelease i -> i < List.length session.held
  | OReserve (k, _) -> vacancy session k <> None && reservation session k = None
  | OUnreserve k | OMoreRoom k | OCommit (k, _, _) -> reservation session k <> None
  | OClose k -> vacancy session k <> None
  | _ -> true

let lease session i = List.nth session.held i

let call session = function
  | OGet k -> Get (number k)
  | OLookup k -> Lookup (number k)
  | OReserve (k, b) -> Reserve (number k, number b)
  | OUnreserve k -> Unreserve (number k)
  | OMoreRoom k -> MoreRoom (number k)
  | OCommit (k, b, c) -> Commit (number k, number session.next, number b, number c)
  | OClose k -> Close (number k)
  | OInsert (k, b, c) -> Insert (number k, number session.next, number b, number c)
  | OShare i -> Share (number (lease session i))
  | ORelease i -> Release (number (lease session i))
  | ORemove k -> Remove (number k)
  | ORetire k -> Retire (number k)
  | OCollect -> Collect
  | OClear -> Clear
  | ODrain -> Drain
  | OSetBudget b -> SetBudget (number b)

let rec without_nth n = function [] -> [] | x :: t -> if n = 0 then t else x :: without_nth (n - 1) t

let apply session op =
  let state, answer = step session.policy session.state (call session op) in
  let held =
    match op, answer.says with
    | _, Hit h -> session.held @ [ int_of h ]
    | OShare i, Done -> session.held @ [ lease session i ]
    | ORelease i, Done -> without_nth i session.held
    | _ -> session.held
  in
  let next = match op with OInsert _ | OCommit _ -> session.next + 1 | _ -> session.next in
  let t = session.tally in
  let tally =
    { hits = (t.hits + match op, answer.says with (OGet _ | OLookup _), Hit _ -> 1 | _ -> 0);
      misses = (t.misses + match answer.says with Miss | Opened -> 1 | _ -> 0);
      evictions = t.evictions + List.length answer.victims;
      rejections =
        (t.rejections + match op with
          | OReserve _ | OCommit _ | OInsert _ -> if refusal answer.says then 1 else 0
          | _ -> 0) }
  in
  ({ session with state; held; next; tally }, answer)

(* ---- What is compared ---- *)

(* Number and name of a verdict, and what it carries. What a refusal for want of room says is held is a lower bound in the Rust, so it is no part
   of a digest; in the printed traces it stands last and is checked as a bound. *)
let verdict = function
  | Done -> (0, "done", []) | Hit h -> (1, "hit", [ int_of h ]) | Miss -> (2, "miss", []) | Opened -> (3, "opened", [])
  | Busy -> (4, "busy", []) | Oversize -> (5, "oversize", []) | NoRoom _ -> (6, "no-room", []) | NoEntry -> (7, "no-entry", [])
  | OverReservation -> (8, "over-reservation", []) | BudgetHeld held -> (9, "budget-held", [ int_of held ])
  | Leased -> (10, "leased", []) | BeingFilled -> (11, "being-filled", []) | Absent -> (12, "absent", [])

let bytes_of entries = List.fold_left (fun sum e -> sum + int_of e.size0) 0 entries
let reservations state = List.filter_map (fun v -> Option.map int_of v.reserved) state.vacancies

let left answer = List.map int_of (returned answer)
let figures session =
  let state = session.state and t = session.tally in
  let hidden = state.retired @ state.ripe and promised = reservations state in
  [ bytes_of hidden; List.length hidden; List.fold_left ( + ) 0 promised; List.length promised; int_of state.budget;
    t.hits; t.misses; t.evictions; t.rejections ]
let row e = [ int_of e.key; int_of e.size0; int_of e.cost; (if leased e then 1 else 0) ]

let observe digest session answer =
  let code, _, carried = verdict answer.says in
  let digest = fold_list (fold_list (fold digest code) carried) (left answer) in
  let digest = fold digest (List.length session.state.order) in
  let digest = List.fold_left (fun digest e -> List.fold_left fold digest (row e)) digest session.state.order in
  List.fold_left fold digest (figures session)

let words numbers = String.concat " " (List.map string_of_int numbers)
let line op session answer =
  let _, name, carried = verdict answer.says in
  let rows = List.map (fun e -> String.concat ":" (List.map string_of_int (row e))) session.state.order in
  let bound = match answer.says with NoRoom held -> show " ; held %d" (int_of held) | _ -> "" in
  show "%s -> %s ; out %s ; order %s ; figures %s%s" (text_of op)
    (String.concat " " (name :: List.map string_of_int carried))
    (words (left answer)) (String.concat " " rows) (words (figures session)) bound

(* ---- Named starting states, each with the calls that every trace from it chooses among ---- *)

type start = { name : string; budget : int; most : int; setup : op list; choices : op list }
let any = 1000
let dear = 1 lsl 19 (* bytes: a ratio is then an eighth of the cost *)

let starts =
  [ { name = "empty"; budget = 8; most = any; setup = [];
      choices = [ OInsert (0, 3, 10); OInsert (1, 5, 90); OInsert (2, 9, 10); OInsert (0, 2, 40); OLookup 3; OReserve (3, 4);
                  OCommit (3, 4, 20); OCommit (3, 5, 20); OMoreRoom 3; OClose 3; OGet 0; OGet 1; ORelease 0; ORetire 0; ORemove 1; OSetBudget 4 ] };
    { name = "full"; budget = 8; most = any;
      setup = [ OInsert (0, 2, 10); OInsert (1, 2, 10); OInsert (2, 2, 80); OInsert (3, 2, 10) ];
      choices = [ OInsert (4, 2, 10); OInsert (4, 5, 50); OInsert (1, 1, 10); OGet 0; OGet 2; ORelease 0; ORelease 1; OShare 0; ORemove 3;
                  ORetire 0; OLookup 5; OReserve (5, 4); OCommit (5, 3, 30); OSetBudget 3; OClear ] };
    { name = "one huge entry"; budget = 8; most = any; setup = [ OInsert (0, 8, 100) ];
      choices = [ OInsert (1, 1, 10); OInsert (0, 8, 50); OInsert (0, 1, 5); OInsert (1, 8, 10); OGet 0; OGet 1; ORelease 0; ORetire 0;
                  ORemove 0; OLookup 2; OReserve (2, 8); OReserve (2, 0); OCommit (2, 0, 9); OMoreRoom 2; OSetBudget 7; OCollect ] };
    { name = "passed over"; budget = 8; most = any;
      setup = [ OInsert (0, 2, 10); OInsert (1, 2, 20); OInsert (2, 2, 10); OInsert (3, 2, 10); OGet 0; OGet 1; OGet 2; ORelease 2;
                OGet 3; ORelease 2; OInsert (4, 2, 10); ORelease 0 ];
      choices = [ OInsert (5, 2, 10); OInsert (5, 4, 70); OInsert (5, 8, 10); OInsert (0, 1, 10); OGet 0; OGet 1; ORelease 0; ORelease 1;
                  OShare 0; ORetire 0; ORetire 1; ORemove 0; OSetBudget 2; OClear; ODrain ] };
    { name = "retired"; budget = 8; most = any;
      setup = [ OInsert (0, 2, 10); OInsert (1, 2, 10); OInsert (2, 2, 10); OGet 0; OGet 1; OShare 1; OGet 2; ORetire 0; ORetire 1; ORetire 2;
                ORelease 3 ];
      choices = [ OInsert (0, 2, 10); OInsert (3, 4, 10); OInsert (1, 3, 30); OGet 0; ORelease 0; ORelease 1; ORelease 2; OShare 0; OCollect;
                  ORetire 0; ORetire 3; OLookup 2; OReserve (2, 2); OMoreRoom 2; OSetBudget 4; OClear ] };
    { name = "reserved"; budget = 8; most = any;
      setup = [ OInsert (0, 2, 10); OInsert (1, 2, 40); OLookup 2; OReserve (2, 3); OLookup 3 ];
      choices = [ OReserve (3, 1); OReserve (3, 4); OCommit (2, 3, 10); OCommit (2, 4, 10); OCommit (3, 1, 70); OUnreserve 2; OClose 2; OClose 3;
                  OMoreRoom 2; OInsert (2, 1, 10); OInsert (4, 3, 10); OGet 0; OGet 2; OLookup 3; ORelease 0; OSetBudget 4 ] };
    { name = "over-leased"; budget = 8; most = any;
      setup = [ OInsert (0, 3, 10); OInsert (1, 3, 10); OInsert (2, 2, 60); OGet 0; OShare 0; OShare 0; OGet 1; OGet 2; OInsert (3, 1, 10) ];
      choices = [ OInsert (3, 1, 10); OInsert (3, 4, 10); OInsert (0, 1, 10); ORelease 0; ORelease 1; ORelease 3; OShare 1; ORetire 0; ORetire 2;
                  OGet 1; ORemove 1; OLookup 4; OReserve (4, 2); OCollect; OSetBudget 5; OClear ] };
    { name = "equal priorities"; budget = 6; most = any;
      setup = [ OInsert (0, 1, 10); OInsert (1, 1, 10); OInsert (2, 1, 10); OInsert (3, 1, 10); OInsert (4, 1, 10); OInsert (5, 1, 10) ];
      choices = [ OInsert (6, 1, 10); OInsert (6, 3, 30); OInsert (7, 0, 10); OGet 0; OGet 1; OGet 3; ORelease 0; ORelease 1; ORelease 2;
                  OInsert (2, 1, 20); OLookup 8; OReserve (8, 2); OCommit (8, 1, 10); OSetBudget 2 ] };
    { name = "few entries"; budget = 8; most = 3;
      setup = [ OInsert (0, 0, 10); OInsert (1, 4, 10); OInsert (2, 0, 30); OGet 1 ];
      choices = [ OInsert (3, 0, 10); OInsert (3, 5, 10); OInsert (5, 4, 10); OInsert (0, 4, 10); OGet 0; OGet 2; ORelease 0; ORelease 1; ORetire 1; OCollect;
                  OLookup 4; OReserve (4, 0); OReserve (4, 5); OCommit (4, 0, 10); OClose 4; OMoreRoom 4; OSetBudget 3 ] };
    { name = "several costs"; budget = 12; most = any;
      setup = [ OInsert (0, 2, 8); OInsert (1, 2, 200); OInsert (2, 4, 16); OInsert (3, 1, 1000); OInsert (4, 3, 1); OGet 0; ORelease 0; OGet 4;
                OInsert (5, 2, 60) ];
      choices = [ OInsert (6, 2, 30); OInsert (6, 6, 5); OInsert (7, 1, 500); OInsert (1, 3, 2); OGet 0; OGet 2; OGet 5; ORelease 0; ORelease 1;
                  ORetire 3; OLookup 8; OReserve (8, 5); OCommit (8, 4, 300); OSetBudget 7 ] };
    (* Where CAMP's costs and ratios are cut. Costs of few bits, which the Rust keeps whole. *)
    { name = "the dearest"; budget = 8 * dear; most = any;
      setup = [ OInsert (0, dear, 1 lsl 50); OInsert (1, 2 * dear, 1 lsl 47); OInsert (2, dear, 1 lsl 44); OInsert (3, 1, 1 lsl 30); OInsert (4, 3 * dear, 9);
                OGet 3; ORelease 0 ];
      choices = [ OInsert (5, dear, 1 lsl 46); OInsert (5, 2 * dear, 1 lsl 50); OInsert (6, 1, 1 lsl 28); OInsert (7, dear, 3); OInsert (2, 3 * dear, 1 lsl 49);
                  OGet 0; OGet 1; OGet 2; OGet 3; ORelease 0; ORelease 1; ORetire 1; OLookup 8; OReserve (8, 2 * dear); OCommit (8, dear, 1 lsl 48);
                  OSetBudget (4 * dear) ] } ]

let at policy start = List.fold_left (fun s op -> fst (apply s op)) (open_session policy start.budget start.most) start.setup

(* Every trace of up to [depth] possible calls from [session], in order; [visit] sees each once, with its last call. *)
let rec traces choices depth session visit level =
  if depth > 0 then
    List.iter
      (fun op ->
        if possible session op then begin
          let after, answer = apply session op in
          visit level op after answer;
          traces choices (depth - 1) after visit (level + 1)
        end)
      choices

(* ---- Random sessions. Four draws for each step, whatever becomes of them. ---- *)

let keys = 10
let draw_bytes random =
  let kind = draw random 16 in
  let bytes = draw random 60 in
  match kind with 0 -> 0 | 1 -> bytes | _ -> 1 + (bytes mod 12)
let draw_cost random =
  let kind = draw random 4 in
  let cost = draw random 200_000 in
  match kind with 0 -> 0 | 1 -> cost mod 100 | 2 -> cost mod 5_000 | _ -> cost

let draw_op random session =
  let weight = draw random 1000 in
  let n = draw random 640 in
  let bytes = draw_bytes random in
  let cost = draw_cost random in
  let key = n mod keys in
  let held = if session.held = [] then 0 else n mod List.length session.held in
  let open_keys = List.sort compare (List.map (fun v -> int_of v.vkey) session.state.vacancies) in
  let vacant = match open_keys with [] -> key | _ -> List.nth open_keys (n mod List.length open_keys) in
  if weight < 240 then OInsert (key, bytes, cost)
  else if weight < 330 then OGet key
  else if weight < 430 then OLookup key
  else if weight < 520 then OReserve (vacant, bytes)
  else if weight < 600 then OCommit (vacant, bytes mod 13, cost)
  else if weight < 625 then OClose vacant
  else if weight < 635 then OUnreserve vacant
  else if weight < 660 then OMoreRoom vacant
  else if weight < 860 then ORelease held
  else if weight < 880 then OShare held
  else if weight < 905 then ORemove key
  else if weight < 935 then ORetire key
  else if weight < 955 then OCollect
  else if weight < 958 then OClear
  else if weight < 960 then ODrain
  else OSetBudget (1 + bytes + (n mod 50))

type random_session = { number : int; of_budget : int; of_most : int; steps : int }
let random_sessions =
  List.init 24 (fun i ->
      { number = i + 1; of_budget = List.nth [ 16; 40; 90 ] (i mod 3); of_most = (if i mod 4 = 3 then 6 else any); steps = 6_000 })

let random_steps policy { number; of_budget; of_most; steps } visit =
  let random = random number in
  let session = ref (open_session policy of_budget of_most) in
  for step = 1 to steps do
    let op = draw_op random !session in
    if possible !session op then begin
      let after, answer = apply !session op in
      session := after;
      visit step (Some (op, after, answer))
    end
    else visit step None
  done

(* ---- What is written ---- *)

let policy_named = function "lru" -> lru | "camp" -> camp | name -> failwith ("no policy " ^ name)

let print_start start =
  Printf.printf "state %s budget %d most %d\n" (String.map (function ' ' -> '-' | c -> c) start.name) start.budget start.most;
  List.iter (fun op -> Printf.printf "setup %s\n" (text_of op)) start.setup

let print_traces policy =
  List.iter
    (fun start ->
      print_start { start with setup = [] };
      let session = ref (open_session policy start.budget start.most) in
      let print op =
        if possible !session op then begin
          let after, answer = apply !session op in
          session := after;
          print_endline (line op after answer)
        end
      in
      List.iter print start.setup;
      (* Then a walk among its choices. *)
      let random = random 7 in
      for _ = 1 to 40 do print (List.nth start.choices (draw random (List.length start.choices))) done)
    starts;
  List.iter
    (fun session ->
      print_start { name = Printf.sprintf "random %d" session.number; budget = session.of_budget; most = session.of_most; setup = []; choices = [] };
      random_steps policy { session with steps = 150 } (fun _ -> function
        | Some (op, after, answer) -> print_endline (line op after answer) | None -> ()))
    (take 4 random_sessions)

let depth = 5
let print_digests policy =
  List.iter
    (fun start ->
      print_start start;
      List.iter (fun op -> Printf.printf "choice %s\n" (text_of op)) start.choices;
      let session = at policy start in
      List.iteri
        (fun i first ->
          if possible session first then
            let after_first, answer_first = apply session first in
            List.iteri
              (fun j second ->
                if possible after_first second then begin
                  let after, answer = apply after_first second in
                  let shallow = ref (observe (observe digest_of_nothing after_first answer_first) after answer) in
                  let deep = ref !shallow and count = ref 0 in
                  traces start.choices (depth - 2) after
                    (fun level _ after answer ->
                      deep := observe !deep after answer;
                      if level < depth then shallow := observe !shallow after answer else incr count)
                    3;
                  Printf.printf "digest %d %d %x %x %d\n" i j !shallow !deep !count
                end)
              start.choices)
        start.choices)
    starts;
  List.iter
    (fun session ->
      Printf.printf "random %d budget %d most %d\n" session.number session.of_budget session.of_most;
      let digest = ref digest_of_nothing and made = ref 0 in
      random_steps policy session (fun step made_step ->
          (match made_step with
          | Some (_, after, answer) -> incr made; digest := observe !digest after answer
          | None -> ());
          if step mod 1000 = 0 then Printf.printf "after %d %d %x\n" step !made !digest))
    random_sessions

(* Every trace below one pair of first calls, to be compared line by line with what the test prints when it fails. *)
let explain policy name i j =
  let start = List.find (fun start -> String.map (function ' ' -> '-' | c -> c) start.name = name) starts in
  let op n = List.nth start.choices n in
  let after_first, answer_first = apply (at policy start) (op i) in
  print_endline (line (op i) after_first answer_first);
  let after, answer = apply after_first (op j) in
  print_endline (line (op j) after answer);
  traces start.choices (depth - 2) after (fun level op after answer -> Printf.printf "%d %s\n" level (line op after answer)) 3

let () =
  match Array.to_list Sys.argv with
  | [ _; "traces"; policy ] -> print_traces (policy_named policy)
  | [ _; "digests"; policy ] -> print_digests (policy_named policy)
  | [ _; "explain"; policy; name; i; j ] -> explain (policy_named policy) name (int_of_string i) (int_of_string j)
  | _ -> prerr_endline "usage: cache_oracle (traces | digests) (lru | camp), or explain POLICY STATE FIRST SECOND"; exit 2
