(** * The headline theorems, and what they rest on

    [make check] demands that every theorem and corollary of the other files is named here, and that Coq says "Closed under the global
    context" of each: no axiom, nothing left out. *)

Require Victims Budget Refused Linear Unique Leases Calls Lru Camp Rebase Passing Suballoc.

(** Victims: the shortest prefix of the unleased in policy order. *)
Print Assumptions Victims.victims_are_a_prefix.
Print Assumptions Victims.victims_are_enough.
Print Assumptions Victims.victims_are_the_shortest_prefix.
Print Assumptions Victims.room_fits.
Print Assumptions Victims.room_takes_the_shortest_prefix.
Print Assumptions Victims.room_is_refused_only_if_nothing_helps.
Print Assumptions Victims.a_call_evicts_the_shortest_prefix.
Print Assumptions Victims.more_room_evicts_the_shortest_prefix.
Print Assumptions Victims.no_other_call_evicts.

(** The budget. *)
Print Assumptions Budget.budget_kept.
Print Assumptions Budget.budget_kept_on_every_trace.
Print Assumptions Budget.limits_are_as_they_were_asked_for.
Print Assumptions Budget.shrink_is_refused_iff_held.
Print Assumptions Budget.sums_fit_64_bits.

(** Refusals. *)
Print Assumptions Refused.refused_changes_nothing.
Print Assumptions Refused.refused_evicts_nothing.
Print Assumptions Refused.refused_again.
Print Assumptions Refused.collecting_changes_no_verdict.

(** Linearity. *)
Print Assumptions Linear.linear_step.
Print Assumptions Linear.linear_run.
Print Assumptions Linear.each_handle_is_in_one_place.

(** Keys. *)
Print Assumptions Unique.keys_stay_unique.
Print Assumptions Unique.keys_are_unique_on_every_trace.

(** Leases. *)
Print Assumptions Leases.retired_are_leased_and_ripe_are_not.
Print Assumptions Leases.sorted_out_on_every_trace.
Print Assumptions Leases.returned_handles_were_unleased.
Print Assumptions Leases.leased_entries_survive.
Print Assumptions Leases.a_leased_resident_stays_resident.
Print Assumptions Leases.lookups_keep_membership.

(** What the calls do. *)
Print Assumptions Calls.who_is_resident_is_found.
Print Assumptions Calls.who_is_not_is_missed.
Print Assumptions Calls.an_insert_is_granted_iff.
Print Assumptions Calls.a_reservation_is_granted_iff.
Print Assumptions Calls.a_commit_is_granted_iff.
Print Assumptions Calls.a_removal_is_granted_iff.
Print Assumptions Calls.what_is_admitted_is_resident.
Print Assumptions Calls.an_insert_hands_back_what_it_replaces.
Print Assumptions Calls.what_is_retired_is_hidden.
Print Assumptions Calls.what_is_ripe_leads.
Print Assumptions Calls.vacancies_are_as_they_were_asked_for.
Print Assumptions Calls.a_vacancy_obeys.
Print Assumptions Calls.leases_are_counted.
Print Assumptions Calls.leases_are_counted_on_every_trace.
Print Assumptions Calls.a_lease_obeys.

(** LRU. *)
Print Assumptions Lru.lru_is_lawful.
Print Assumptions Lru.a_use_is_the_most_recent.
Print Assumptions Lru.a_release_moves_nothing.
Print Assumptions Lru.a_call_moves_what_it_uses.
Print Assumptions Lru.the_order_is_that_of_the_last_uses.

(** CAMP. *)
Print Assumptions Camp.camp_is_lawful.
Print Assumptions Camp.keep5_is_close.
Print Assumptions Camp.ratios_are_bounded.
Print Assumptions Camp.camp_stays_in_order.
Print Assumptions Camp.camp_is_in_order_on_every_trace.
Print Assumptions Camp.a_use_is_an_append.
Print Assumptions Camp.camp_uses_append.
Print Assumptions Camp.the_order_is_the_merge_of_its_queues.
Print Assumptions Camp.the_merge_is_unique.
Print Assumptions Camp.the_victim_is_the_least_head.
Print Assumptions Camp.the_clock_is_the_highest_evicted.
Print Assumptions Camp.a_use_marks_and_nothing_else_does.

(** Its clock brought down. *)
Print Assumptions Rebase.rebasing_keeps_every_comparison.
Print Assumptions Rebase.alike_states_answer_alike.
Print Assumptions Rebase.a_rebase_makes_an_alike_state.
Print Assumptions Rebase.rebasing_changes_no_answer.

(** Passing over leased entries. *)
Print Assumptions Passing.parts_show_one_order.
Print Assumptions Passing.the_walk_ends.
Print Assumptions Passing.the_walk_is_the_models_eviction.
Print Assumptions Passing.a_refused_walk_keeps_the_order.
Print Assumptions Passing.after_a_refusal_all_leased_are_passed.
Print Assumptions Passing.a_released_entry_goes_aside.
Print Assumptions Passing.a_use_joins_the_queue.
Print Assumptions Passing.an_entry_leaves_its_part.
Print Assumptions Passing.passing_moves_the_cut.
Print Assumptions Passing.a_use_keeps_the_cut.
Print Assumptions Passing.under_lru_the_walk_is_the_models_eviction.
Print Assumptions Passing.under_camp_the_walk_is_the_models_eviction.
Print Assumptions Passing.lru_order_has_ages.
Print Assumptions Passing.camp_order_has_ages.
Print Assumptions Passing.every_order_can_be_shown.
Print Assumptions Passing.a_new_age_moves_no_other.

(** The suballocator. *)
Print Assumptions Suballoc.release_spec.
Print Assumptions Suballoc.best_fit.
Print Assumptions Suballoc.alloc_spec.
Print Assumptions Suballoc.refused_only_if_nothing_fits.
Print Assumptions Suballoc.sound_after_every_request.
Print Assumptions Suballoc.sound_on_every_trace.
Print Assumptions Suballoc.freed_neighbours_have_merged.
Print Assumptions Suballoc.an_allocation_is_refused_iff.
Print Assumptions Suballoc.an_allocation_is_a_best_fit.
Print Assumptions Suballoc.what_is_live_can_be_freed.
Print Assumptions Suballoc.a_region_comes_and_goes.
