(* As cache_oracle.ml, for the suballocator. *)

open Suballoc_model
open Common

let rec positive i = if i = 1 then XH else if i land 1 = 1 then XI (positive (i lsr 1)) else XO (positive (i lsr 1))
let number i = if i = 0 then N0 else Npos (positive i)
let rec of_positive = function XH -> 1 | XO p -> 2 * of_positive p | XI p -> 2 * of_positive p + 1
let int_of = function N0 -> 0 | Npos p -> of_positive p

(* Regions, by number; live spans are named by their place among the live, oldest first. *)
type op = OAdd of int | OWithdraw of int | OAlloc of int * int | OFree of int

let show = Printf.sprintf
let text_of = function
  | OAdd r -> show "add %d" r
  | OWithdraw r -> show "withdraw %d" r
  | OAlloc (bytes, align) -> show "alloc %d %d" bytes align
  | OFree i -> show "free %d" i

type session = { regions : (int * int) list; arena : arena; given : int list; held : (int * int) list }

let open_session regions = { regions; arena = { free = []; live = []; given = N0 }; given = []; held = [] }

let possible session = function
  | OAdd r -> r < List.length session.regions && not (List.mem r session.given)
  | OWithdraw r -> List.mem r session.given
  | OAlloc _ -> true
  | OFree i -> i < List.length session.held

let span (offset, bytes) = (number offset, number bytes)
let region session r = List.nth session.regions r
let rec without_nth n = function [] -> [] | x :: t -> if n = 0 then t else x :: without_nth (n - 1) t

let apply session op =
  let request =
    match op with
    | OAdd r -> Add (span (region session r))
    | OWithdraw r -> Withdraw (span (region session r))
    | OAlloc (bytes, align) -> Alloc (number bytes, number align)
    | OFree i -> Free (span (List.nth session.held i))
  in
  let arena, reply = serve session.arena request in
  let session = { session with arena } in
  let session =
    match op, reply with
    | OAdd r, Ok -> { session with given = r :: session.given }
    | OWithdraw r, Ok -> { session with given = List.filter (( <> ) r) session.given }
    | OAlloc (bytes, _), At offset -> { session with held = session.held @ [ (int_of offset, bytes) ] }
    | OFree i, Ok -> { session with held = without_nth i session.held }
    | (OAdd _ | OFree _), Refused -> failwith ("the model refuses what is possible: " ^ text_of op)
    | _ -> session
  in
  (session, reply)

let reply = function At offset -> [ 0; int_of offset ] | Refused -> [ 1 ] | Ok -> [ 2 ]
let free_spans session = List.concat_map (fun (offset, bytes) -> [ int_of offset; int_of bytes ]) session.arena.free
let sizes session = List.map (fun (_, bytes) -> int_of bytes) session.arena.free
let figures session = [ List.fold_left ( + ) 0 (sizes session); List.fold_left max 0 (sizes session) ]

let observe digest session answer =
  fold_list (fold_list (fold_list digest (reply answer)) (free_spans session)) (figures session)

let words numbers = String.concat " " (List.map string_of_int numbers)
let line op session answer =
  show "%s -> %s ; free %s ; figures %s" (text_of op) (words (reply answer)) (words (free_spans session)) (words (figures session))

type start = { name : string; of_regions : (int * int) list; setup : op list; choices : op list }

let frees = [ OFree 0; OFree 1; OFree 2; OFree 3 ]
let starts =
  [ { name = "empty"; of_regions = [ (0, 16); (17, 16) ]; setup = [];
      choices = [ OAdd 0; OAdd 1; OWithdraw 0; OWithdraw 1; OAlloc (1, 1); OAlloc (4, 4); OAlloc (16, 16); OAlloc (17, 1) ] @ frees };
    { name = "one region"; of_regions = [ (0, 16) ]; setup = [ OAdd 0 ];
      choices = [ OWithdraw 0; OAdd 0; OAlloc (1, 1); OAlloc (3, 1); OAlloc (3, 4); OAlloc (5, 2); OAlloc (8, 8); OAlloc (16, 1); OAlloc (17, 1) ] @ frees };
    { name = "holes"; of_regions = [ (0, 24) ];
      setup = OAdd 0 :: List.init 8 (fun _ -> OAlloc (3, 1)) @ [ OFree 6; OFree 4; OFree 2; OFree 0 ];
      choices = [ OAlloc (1, 1); OAlloc (2, 2); OAlloc (3, 1); OAlloc (3, 4); OAlloc (4, 1); OAlloc (2, 8); OWithdraw 0 ] @ frees };
    { name = "holes of several sizes"; of_regions = [ (0, 32) ];
      setup = [ OAdd 0; OAlloc (5, 1); OAlloc (1, 1); OAlloc (3, 1); OAlloc (1, 1); OAlloc (8, 1); OAlloc (1, 1); OAlloc (5, 1); OAlloc (1, 1);
                OFree 0; OFree 1; OFree 2; OFree 3 ];
      choices = [ OAlloc (1, 1); OAlloc (3, 1); OAlloc (3, 2); OAlloc (5, 1); OAlloc (4, 4); OAlloc (7, 1); OAlloc (8, 1); OAlloc (8, 8) ] @ frees };
    { name = "full"; of_regions = [ (0, 12) ]; setup = OAdd 0 :: List.init 4 (fun _ -> OAlloc (3, 1));
      choices = [ OAlloc (1, 1); OAlloc (3, 1); OAlloc (4, 4); OAlloc (6, 1); OAlloc (9, 1); OAlloc (12, 1); OWithdraw 0 ] @ frees };
    { name = "one huge span"; of_regions = [ (0, 32); (33, 4) ]; setup = [ OAdd 0; OAlloc (32, 1) ];
      choices = [ OAdd 1; OWithdraw 0; OWithdraw 1; OAlloc (1, 1); OAlloc (2, 2); OAlloc (4, 1); OAlloc (32, 32); OAlloc (31, 1) ] @ frees };
    { name = "odd offsets"; of_regions = [ (3, 21) ]; setup = [ OAdd 0; OAlloc (2, 1) ];
      choices = [ OAlloc (1, 1); OAlloc (1, 2); OAlloc (2, 4); OAlloc (3, 8); OAlloc (8, 8); OAlloc (1, 16); OAlloc (19, 1); OWithdraw 0 ] @ frees };
    { name = "regions that touch"; of_regions = [ (0, 8); (8, 8); (16, 8) ]; setup = [ OAdd 0; OAdd 2 ];
      choices = [ OAdd 1; OAdd 0; OWithdraw 0; OWithdraw 1; OWithdraw 2; OAlloc (4, 1); OAlloc (8, 8); OAlloc (9, 1); OAlloc (24, 8) ] @ frees } ]

let at start = List.fold_left (fun s op -> fst (apply s op)) (open_session start.of_regions) start.setup

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

let draw_op random session =
  let weight = draw random 100 in
  let n = draw random 640 in
  let bytes = draw random 64 in
  let align = 1 lsl draw random 6 in
  let held = if session.held = [] then 0 else n mod List.length session.held in
  let region = n mod List.length session.regions in
  if weight < 50 then OAlloc (1 + (bytes mod (if weight < 40 then 12 else 64)), if weight mod 2 = 0 then 1 else align)
  else if weight < 94 then OFree held
  else if weight < 97 then OWithdraw region
  else OAdd region

let random_regions = [ (0, 200); (201, 100); (320, 64); (384, 64) ]
let random_steps seed steps visit =
  let random = random seed in
  let session = ref (open_session random_regions) in
  for step = 1 to steps do
    let op = draw_op random !session in
    if possible !session op then begin
      let after, answer = apply !session op in
      session := after;
      visit step (Some (op, after, answer))
    end
    else visit step None
  done

let file_name = String.map (function ' ' -> '-' | c -> c)
let print_start name regions setup =
  Printf.printf "state %s regions %s\n" (file_name name) (words (List.concat_map (fun (offset, bytes) -> [ offset; bytes ]) regions));
  List.iter (fun op -> Printf.printf "setup %s\n" (text_of op)) setup

let print_traces () =
  List.iter
    (fun start ->
      print_start start.name start.of_regions [];
      let session = ref (open_session start.of_regions) in
      let print op =
        if possible !session op then begin
          let after, answer = apply !session op in
          session := after;
          print_endline (line op after answer)
        end
      in
      List.iter print start.setup;
      let random = random 7 in
      for _ = 1 to 40 do print (List.nth start.choices (draw random (List.length start.choices))) done)
    starts;
  print_start "random" random_regions [];
  random_steps 1 150 (fun _ -> function Some (op, after, answer) -> print_endline (line op after answer) | None -> ())

let depth = 5
let print_digests () =
  List.iter
    (fun start ->
      print_start start.name start.of_regions start.setup;
      List.iter (fun op -> Printf.printf "choice %s\n" (text_of op)) start.choices;
      let session = at start in
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
    (fun seed ->
      Printf.printf "random %d regions %s\n" seed (words (List.concat_map (fun (offset, bytes) -> [ offset; bytes ]) random_regions));
      let digest = ref digest_of_nothing and made = ref 0 in
      random_steps seed 8_000 (fun step made_step ->
          (match made_step with
          | Some (_, after, answer) -> incr made; digest := observe !digest after answer
          | None -> ());
          if step mod 1000 = 0 then Printf.printf "after %d %d %x\n" step !made !digest))
    (List.init 16 succ)

let explain name i j =
  let start = List.find (fun start -> file_name start.name = name) starts in
  let op n = List.nth start.choices n in
  let after_first, answer_first = apply (at start) (op i) in
  print_endline (line (op i) after_first answer_first);
  let after, answer = apply after_first (op j) in
  print_endline (line (op j) after answer);
  traces start.choices (depth - 2) after (fun level op after answer -> Printf.printf "%d %s\n" level (line op after answer)) 3

let () =
  match Array.to_list Sys.argv with
  | [ _; "traces" ] -> print_traces ()
  | [ _; "digests" ] -> print_digests ()
  | [ _; "explain"; name; i; j ] -> explain name (int_of_string i) (int_of_string j)
  | _ -> prerr_endline "usage: suballoc_oracle traces | digests | explain STATE FIRST SECOND"; exit 2
