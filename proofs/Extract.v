(** * The model as a program

    Plain extraction: numbers stay Coq's binary numbers, and nothing but booleans, options, pairs and lists is mapped to OCaml's. *)

Require Model Lru Camp Suballoc.
Require Import Extraction ExtrOcamlBasic.

Extraction Language OCaml.
Extraction "build/cache_model.ml" Model.step Model.empty Model.returned Model.refusal Lru.lru Camp.camp.
Extraction "build/suballoc_model.ml" Suballoc.serve.
