"""python -m tests.mutants [FILE]: break guards, masks, spans and hold-out on purpose; each must fail its named test.

A breakage is a change of one place in a copy of the repository. One that goes unnoticed is a fault of its test. With
FILE only the breakages of that file are tried.
"""

import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parent.parent
WORKERS = 2
LEFT_OUT = (".venv", ".dvc", "data", "models", "reports", "build", "mlartifacts", "mlflow.db*")


@dataclass(frozen=True)
class Mutant:
    """`old` becomes `new` in `file`; `test` must then fail."""

    name: str
    file: str
    old: str
    new: str
    test: str


MUTANTS = [
    Mutant("an unsupervised example passes", "tasks/guards.py", "if not any(supervised):", "if False:",
           "test_guards.py::test_a_batch_without_supervised_token_is_stopped"),
    Mutant("an unlearnt end of turn passes", "tasks/guards.py", "or not supervised[-1]", "",
           "test_guards.py::test_an_end_of_turn_that_is_not_learnt_is_stopped"),
    Mutant("a doubled BOS passes", "tasks/guards.py", "ids[0] == ids[1] == bos", "ids[0] == ids[1] == -1",
           "test_guards.py::test_a_doubled_bos_is_stopped"),
    Mutant("a prompt that is no prefix passes", "tasks/guards.py", "!= list(prompt)", "== None",
           "test_guards.py::test_a_prompt_that_is_no_prefix_is_stopped"),
    Mutant("an adapter without effect passes", "tasks/guards.py", "if not difference > 0:", "if difference < 0:",
           "test_guards.py::test_an_adapter_that_changes_nothing_is_stopped"),
    Mutant("neighbours that see each other pass", "tasks/guards.py", "if difference != 0:", "if difference > 1e9:",
           "test_guards.py::test_neighbours_that_see_each_other_are_stopped"),
    Mutant("a held-out cluster in training passes", "tasks/guards.py", "if cluster in excluded", "if not cluster",
           "test_guards.py::test_a_held_out_cluster_in_training_is_stopped_with_both_names"),
    Mutant("the hold-out holds nothing out", "tasks/render/holdout.py", " & ~held\n", "\n",
           "test_benchmarks.py::test_nothing_of_a_held_out_cluster_is_trained_on"),
    Mutant("related clusters are trained on", "tasks/params.py", "return related | {", "return {",
           "test_params.py::test_a_related_cluster_is_excluded_by_the_held_out_one"),
    Mutant("merges out of the ids' order are encoded by the ids", "tasks/pack/encoder.py",
           "ids != sorted(set(ids))", "False",
           "test_encoder.py::test_merges_in_another_order_than_the_ids_are_left_to_the_tokenizer"),
    Mutant("names of tokens in a text are encoded as text", "tasks/pack/encoder.py",
           'if not token["special"]]', "if False]",
           "test_encoder.py::test_the_tokens_of_any_text_are_the_tokenizer_s"),
    Mutant("a cluster related to none passes", "tasks/params.py", "if name not in held)", "if False)",
           "test_params.py::test_what_is_related_to_no_held_out_cluster_is_refused_with_the_remedy"),
    Mutant("a held-out task under another name passes", "tasks/render/holdout.py", "return re.sub(r",
           "return name + re.sub(r",
           "test_holdout.py::test_a_held_out_task_in_another_spelling_stops_the_run"),
    Mutant("a held-out task under a second cluster passes", "tasks/render/holdout.py",
           " or names.get(plain(task.name))", "",
           "test_holdout.py::test_a_held_out_task_under_a_second_cluster_stops_the_run_with_both_names"),
    Mutant("held-out records under another name pass", "tasks/render/holdout.py", "if count >= SAME", "if count < SAME",
           "test_holdout.py::test_a_held_out_task_s_records_under_another_name_stop_the_run_with_both"),
    Mutant("an official split is not kept", "tasks/render/holdout.py", "return by_task | wanted.excluded()",
           "return wanted.excluded()",
           "test_holdout.py::test_tasks_of_an_official_split_are_not_trained_on_nor_those_of_their_clusters"),
    Mutant("contaminated records are trained on", "tasks/render/__main__.py", "~found.contaminated, wanted",
           "side.training, wanted",
           "test_decontaminate.py::test_a_planted_document_is_dropped_and_listed_with_both_sides"),
    Mutant("case hides a document", "tasks/render/ngrams.py", ".str.to_lowercase()", "",
           "test_decontaminate.py::test_a_planted_document_is_dropped_and_listed_with_both_sides"),
    Mutant("a sentence without spaces is one word", "tasks/render/ngrams.py", '" $1 "', '"$1"',
           "test_decontaminate.py::test_a_document_in_a_script_without_spaces_is_found_inside_a_longer_text"),
    Mutant("words of neighbours are joined", "tasks/render/ngrams.py", "places + length <=", "places <=",
           "test_decontaminate.py::test_words_of_two_neighbouring_records_are_not_joined"),
    Mutant("validation records are trained on", "tasks/render/mixture.py", "trainable & ~aside", "trainable",
           "test_mixture.py::test_what_is_set_aside_is_trained_on_in_no_mixture"),
    Mutant("the prompt is learnt too", "tasks/pack/tokens.py", "own, read = next(encoded), len(lead)",
           "own, read = next(encoded), 0", "test_pack.py::test_the_completion_and_its_end_are_learnt_and_nothing_else"),
    Mutant("the span begins one token late", "tasks/pack/tokens.py", "own, read = next(encoded), len(lead)",
           "own, read = next(encoded), len(lead) + 1",
           "test_pack.py::test_the_completion_and_its_end_are_learnt_and_nothing_else"),
    Mutant("the end of turn is left out", "tasks/pack/skeleton.py", "learnt=answered", "learnt=False",
           "test_pack.py::test_every_answer_of_a_conversation_is_learnt_and_nothing_else"),
    Mutant("only the first answer is learnt", "tasks/pack/skeleton.py", "self.message > 0 and self.message % 2 == 0",
           "self.message == 2", "test_pack.py::test_every_answer_of_a_conversation_is_learnt_and_nothing_else"),
    Mutant("a text forges special tokens", "tasks/pack/encoder.py", "tokenizer.encode_special_tokens = True", "",
           "test_pack.py::test_special_tokens_in_a_text_are_plain_text"),
    Mutant("assembled tokens are not compared", "tasks/guards.py", "if list(assembled) != list(whole):", "if False:",
           "test_pack.py::test_tokens_that_are_not_those_of_the_whole_text_are_stopped"),
    Mutant("an answer is trained on behind other markup than it is generated behind", "tasks/pack/skeleton.py",
           "if whole[: answer.start()] != before:", "if False:",
           "test_pack.py::test_a_template_that_opens_later_answers_otherwise_is_stopped"),
    Mutant("a row's tokens are those of other sequences", "tasks/shards.py", "for one in numbers]",
           "for one in range(len(numbers))]", "test_shards.py::test_a_row_holds_the_tokens_of_its_sequences"),
    Mutant("packed sequences see each other", "tasks/attention.py", "ends = cu_seq_lens_q.tolist()",
           "ends = [0, int(cu_seq_lens_q[-1])]", "test_step.py::test_a_changed_neighbour_changes_nothing"),
    Mutant("attention is not causal", "tasks/attention.py", 'own.masked_fill_(later[:size, :size], float("-inf"))', "",
           "test_step.py::test_packed_loss_and_gradients_equal_those_of_each_sequence_alone"),
    Mutant("attention over long sequences is not causal", "tasks/attention.py", "is_causal=True",
           "is_causal=False", "test_fused.py::test_attention_of_packed_sequences_is_that_of_each_alone"),
    Mutant("a block of queries reads keys of the sequence before", "tasks/attention.py", "key[:, first:end].transpose",
           "key[:, max(first - 1, 0) : end][:, : end - first].transpose",
           "test_fused.py::test_attention_of_packed_sequences_is_that_of_each_alone"),
    Mutant("a chunk is left out of the loss", "tasks/train/loss.py", "range(0, len(labels), CHUNK)",
           "range(CHUNK, len(labels), CHUNK)",
           "test_fused.py::test_a_chunked_loss_and_its_gradient_are_those_of_all_logits"),
    Mutant("what a model does behind its head is not looked at", "tasks/train/step.py",
           "return head if torch.equal(head(hidden[None])[0], logits) else None", "return head",
           "test_fused.py::test_logits_that_are_changed_behind_the_head_are_noticed"),
    Mutant("an adapter's gradient is not scaled", "tasks/train/linear.py", "outer = (out @ up).mul_(ctx.scale)",
           "outer = out @ up", "test_fused.py::test_twenty_steps_equal_the_plain_unpacked_computation"),
    Mutant("a variant of LoRA is computed as LoRA", "tasks/train/linear.py", "or names[0] in self.lora_variant", "",
           "test_fused.py::test_what_the_fused_layer_does_not_compute_is_left_to_peft"),
    Mutant("positions run on over the row", "tasks/train/step.py",
           "torch.cat([torch.arange(length) for length in lengths])", "torch.arange(len(ids))",
           "test_step.py::test_positions_start_anew_in_each_sequence"),
    Mutant("labels are one place off", "tasks/train/step.py", '"predicting": learnt - 1', '"predicting": learnt',
           "test_step.py::test_packed_loss_and_gradients_equal_those_of_each_sequence_alone"),
    Mutant("accumulation weighs each piece alike", "tasks/train/step.py", "self.head) / supervised",
           'self.head) / len(piece["labels"])',
           "test_step.py::test_the_loss_is_divided_by_the_supervised_tokens_of_the_whole_step"),
    Mutant("a share's gradients are not added", "tasks/train/shares.py", "torch._foreach_add_(gradients, others)",
           "pass", "test_step.py::test_threads_side_by_side_train_like_one_and_twice_to_the_same_bytes"),
    Mutant("a sequence begins in its neighbour", "tasks/train/shares.py", "start = span.stop", "start = span.stop - 1",
           "test_shares.py::test_each_sequence_is_in_one_share_whole"),
    Mutant("what threads made is told in another order", "tasks/threads.py", "waiting.popleft()", "waiting.pop()",
           "test_threads.py::test_the_order_is_that_of_the_items"),
    Mutant("threads compute on after a failure", "tasks/threads.py", "wait(waiting)", "pass",
           "test_threads.py::test_a_failure_is_told_when_nothing_computes_any_more"),
    Mutant("threads draw random numbers in any order", "tasks/train/shares.py", "return layers or any(",
           "return any(", "test_shares.py::test_a_model_that_drops_something_out_is_known"),
    Mutant("a norm that only bears the name is replaced", "tasks/norm.py", "and _equal(layer, ours)", "",
           "test_fused.py::test_a_norm_that_only_bears_the_name_or_learns_is_left_alone"),
    Mutant("a checkpoint of another fingerprint is picked up", "tasks/train/checkpoints.py",
           'sealed == {"fingerprint": self.fingerprint, "files": _digests(path)}', 'sealed["files"] == _digests(path)',
           "test_resume.py::test_a_checkpoint_of_another_fingerprint_is_not_taken"),
    Mutant("a half-written checkpoint is picked up", "tasks/train/checkpoints.py",
           'sealed == {"fingerprint": self.fingerprint, "files": _digests(path)}',
           'sealed["fingerprint"] == self.fingerprint',
           "test_resume.py::test_a_half_written_checkpoint_is_passed_over_for_the_one_before"),
    Mutant("a checkpoint is written in its place", "tasks/train/checkpoints.py", 'self.folder / "partial"',
           "self.folder", "test_resume.py::test_a_checkpoint_is_written_beside_its_place"),
    Mutant("each process divides by its own tokens", "tasks/train/training.py", "average_tokens_across_devices=True",
           "average_tokens_across_devices=False", "test_launch.py::test_two_processes_learn_what_one_learns"),
    Mutant("each process keeps its own gradients", "tasks/train/processes.py",
           "together.sum_gradients(model.parameters())", "pass",
           "test_launch.py::test_two_processes_learn_what_one_learns"),
    Mutant("the rows that are left at an epoch's end are learnt twice", "tasks/train/processes.py",
           "[FILL] * self.fill", "[0] * self.fill",
           "test_launch.py::test_an_epoch_holds_each_row_once_and_its_last_step_is_filled_up_with_none"),
    Mutant("what is drawn for a row depends on the rows before", "tasks/train/processes.py", "torch.manual_seed(int(",
           "(int(", "test_launch.py::test_two_processes_learn_what_one_learns"),
    Mutant("rows begin anew after a kill", "tasks/train/training.py", 'save_strategy="no",',
           'save_strategy="no", ignore_data_skip=True,',
           "test_resume.py::test_stopped_after_every_step_it_ends_with_the_same_bytes"),
    Mutant("the best checkpoint is thrown away", "tasks/train/control.py",
           "self.checkpoints.keep([state.global_step, history.best_step(state.log_history)])",
           "self.checkpoints.keep([state.global_step])",
           "test_resume.py::test_the_newest_and_the_best_checkpoint_are_kept"),
    Mutant("the last adapter is the result", "tasks/train/training.py", "if best is not None and",
           "if False and", "test_control.py::test_the_best_adapter_is_the_result_and_training_ends_when_none_follows"),
    Mutant("validation drops out", "tasks/train/control.py", "self.adapted.eval()", "self.adapted.train()",
           "test_control.py::test_the_validation_loss_is_that_of_each_sequence_alone_under_the_saved_adapter"),
    Mutant("a loss that is no number passes", "tasks/guards.py", "if not loss < 2 * guessing:",
           "if loss >= 2 * guessing:", "test_guards.py::test_a_loss_that_is_no_number_or_far_from_guessing_is_stopped"),
    Mutant("a gradient that explodes passes", "tasks/guards.py", "if not gradient < min(1_000 * usual, math.inf):",
           "if not gradient < math.inf:", "test_guards.py::test_a_gradient_far_above_the_usual_one_is_stopped"),
    Mutant("a base model of other than numbers passes", "tasks/guards.py", "    if names:\n", "    if False:\n",
           "test_guards.py::test_a_base_model_that_holds_other_than_numbers_is_stopped"),
    Mutant("choices see each other", "tasks/evaluate/attention.py", "list[int](), parents[first]",
           "list[int](), first - 1", "test_scorer.py::test_scores_equal_those_of_lm_eval"),
    Mutant("a context sees what follows", "tasks/evaluate/attention.py", "is_causal=True", "is_causal=False",
           "test_scorer.py::test_scores_equal_those_of_lm_eval"),
    Mutant("a choice sees what follows", "tasks/evaluate/attention.py", "attn_mask=mask", "attn_mask=None",
           "test_scorer.py::test_scores_equal_those_of_lm_eval"),
    Mutant("questions see their neighbours", "tasks/evaluate/attention.py", "self.before + start + row for",
           "self.before + row for", "test_scorer.py::test_a_question_s_score_does_not_depend_on_the_others"),
    Mutant("questions stand behind another one's prefix", "tasks/evaluate/layout.py",
           "next((place for place in range(most) if one[place] != two[place]), most)", "most",
           "test_scorer.py::test_questions_share_a_prefix_only_where_their_tokens_are_the_same"),
    Mutant("positions behind a prefix begin anew", "tasks/evaluate/ranking.py", "[chains.before + depth for",
           "[depth for", "test_scorer.py::test_scores_behind_exemplars_equal_those_of_lm_eval"),
    Mutant("a prefix's keys are those of another layer", "tasks/evaluate/attention.py", "before = self.prefix[layer]",
           "before = self.prefix[0]", "test_scorer.py::test_scores_behind_exemplars_equal_those_of_lm_eval"),
    Mutant("a window of attention is passed over", "tasks/evaluate/attention.py",
           "or (sliding_window or rows.width) < rows.width", "",
           "test_scorer.py::test_a_model_whose_attention_is_not_plain_is_left_to_lm_eval"),
    Mutant("an answer sees beyond its own tokens", "tasks/evaluate/memory.py", "> self.lengths[:, None]",
           "> self.lengths.max()", "test_generation.py::test_answers_equal_those_of_lm_eval"),
    Mutant("an answer goes on with another one's tokens", "tasks/evaluate/memory.py", "(keys[kept], values[kept])",
           "(keys[: len(kept)], values[: len(kept)])",
           "test_generation.py::test_the_answers_that_go_on_keep_their_own_tokens"),
    Mutant("an answer goes on behind its end", "tasks/evaluate/scorer.py", "answer[-1] in ends or", "",
           "test_generation.py::test_an_answer_ends_with_its_turn"),
    Mutant("what bends the likeliest token is passed over", "tasks/evaluate/generation.py", "own <= HARMLESS and", "",
           "test_generation.py::test_settings_that_change_the_likeliest_token_are_left_to_lm_eval"),
    Mutant("evaluation adds a BOS of its own", "tasks/evaluate/scorer.py", "add_bos_token=False", "add_bos_token=True",
           "test_chat.py::test_evaluation_leaves_bos_to_the_chat_template"),
    Mutant("another chat template in evaluation passes", "tasks/guards.py", "if trained != evaluated:", "if False:",
           "test_guards.py::test_another_chat_template_in_evaluation_is_stopped"),
    Mutant("verdicts are not corrected", "tasks/report/compare.py", "statistics.holm([item.p for item in found])",
           "[item.p for item in found]", "test_report.py::test_verdicts_are_corrected_for_all_comparisons"),
    Mutant("the correction is that of one comparison", "tasks/statistics.py", "(len(p_values) - rank) *", "1 *",
           "test_statistics.py::test_equal_models_are_seldom_called_different_on_any_benchmark"),
    Mutant("a point value decides", "tasks/statistics.py", "if corrected >= LEVEL or difference == 0:",
           "if difference == 0:",
           "test_statistics.py::test_a_verdict_follows_from_the_corrected_p_value_however_large_the_difference"),
    Mutant("each template makes a new document", "tasks/report/samples.py", "or place[0] for", "or place for",
           "test_report.py::test_one_record_in_many_templates_counts_as_one"),
    Mutant("a clean score counts marked documents", "tasks/report/compare.py", "document not in touched", "True",
           "test_report.py::test_the_clean_score_leaves_out_the_marked_documents"),
    Mutant("the report believes an answer", "tasks/report/web.py", "autoescape=True", "autoescape=False",
           "test_report.py::test_an_answer_is_shown_with_its_instruction"),
    Mutant("the same fingerprint makes a second version", "tasks/register/registry.py",
           "version = found or make_version", "version = make_version",
           "test_register.py::test_the_same_fingerprint_makes_no_second_version"),
    Mutant("a worse candidate passes the gate", "tasks/promote/gate.py", "found.low > -gate.margin", "True",
           "test_promote.py::test_a_worse_candidate_is_refused_and_the_champion_stays"),
    Mutant("a candidate like its base passes the gate", "tasks/promote/gate.py",
           "found.low > 0 and better > 0 and not worse", "True",
           "test_promote.py::test_a_candidate_that_is_not_better_than_its_base_is_refused_with_the_reason"),
    Mutant("the gate knows no floor", "tasks/promote/gate.py", "not below, told", "True, told",
           "test_promote.py::test_a_fall_below_the_floor_refuses_although_the_chosen_measures_rose"),
    Mutant("documents in every wording are judged twice", "tasks/promote/gate.py", "if pair.is_compared]", "]",
           "test_promote.py::test_the_few_documents_in_every_wording_are_not_judged_a_second_time"),
    Mutant("a floor is judged by the score alone", "tasks/promote/gate.py", "low = item.low if",
           "low = item.gain if",
           "test_promote.py::test_a_floor_is_judged_by_the_interval"),
    Mutant("the gate asks for no rate", "tasks/promote/gate.py", "found.low >= (least or 0)", "True",
           "test_promote.py::test_a_rate_that_is_too_low_is_refused"),
    Mutant("the champion moves without a decision", "tasks/promote/__main__.py", "if made.promoted:", "if True:",
           "test_promote.py::test_a_worse_candidate_is_refused_and_the_champion_stays"),
    Mutant("the gate takes no lock", "tasks/locks.py", "if not take(file.fileno()):", "if False:",
           "test_promote.py::test_two_candidates_at_once_are_judged_one_after_the_other"),
    Mutant("unlike benchmarks are compared", "tasks/promote/evidence.py", "if ours[name] == theirs.get(name)}", "}",
           "test_promote.py::test_a_champion_that_was_measured_otherwise_is_no_ground_to_promote"),
    Mutant("a version that was taken back comes back by itself", "tasks/promote/moves.py",
           "if own and own[-1].after != version else None", "if False else None",
           "test_promote.py::test_a_rollback_restores_and_the_same_candidate_does_not_come_back_by_itself"),
    Mutant("a move that was begun is never made", "tasks/promote/moves.py", "carry_out(client, name, moves[-1])",
           "pass", "test_promote.py::test_a_move_that_was_written_down_and_not_made_is_made"),
    Mutant("a move past the gate is not told", "tasks/promote/moves.py", "if now is not None and str(now) != told:",
           "if False:", "test_promote.py::test_an_alias_that_was_moved_past_the_gate_is_in_the_log"),
    Mutant("a variant is judged", "tasks/promote/__main__.py", "if variant := settings.experiment():",
           'if variant := "":', "test_promote.py::test_the_flow_of_a_variant_judges_nothing"),
    Mutant("a conversation that no longer fits ends the server's thread", "tasks/serve/worker.py", "except Refusal:",
           "except ZeroDivisionError:",
           "test_serve.py::test_a_prompt_that_does_not_fit_a_newer_version_is_no_end_of_the_worker"),
    Mutant("an adapter that comes out otherwise passes", "tasks/register/__main__.py", "if recorded != again:",
           "if False:", "test_reproduce.py::test_an_adapter_that_comes_out_otherwise_is_told"),
    Mutant("a version on fresh documents never falls", "tasks/promote/drop.py", "self.now.high < self.before.low",
           "False", "test_promote.py::test_a_version_has_fallen_where_fresh_documents_show_it"),
    Mutant("a retraining with nothing new trains", "flows/attempts.py", "if last is None or", "if True or",
           "test_deployed.py::test_nothing_new_ends_within_seconds_with_the_reason"),
    Mutant("two retrainings run at once", "flows/attempts.py",
           "if not locks.take(file.fileno()):", "if False:",
           "test_attempts.py::test_of_two_of_a_kind_one_is_busy"),
    Mutant("a full disk is no reason", "flows/attempts.py", "if free < least:", "if False:",
           "test_attempts.py::test_a_full_disk_begins_nothing"),
    Mutant("a changed source is trained on again", "tasks/register/reproduce.py", "!= recorded[name]:",
           "!= recorded[name] and False:",
           "test_reproduce.py::test_a_source_that_was_changed_since_is_told_before_anything_runs"),
    Mutant("new results of an old adapter are left out", "tasks/register/registry.py",
           "if all(version.tags.get(name) == wanted[name] for name in digests):", "if True:",
           "test_register.py::test_the_same_adapter_with_other_results_stays_one_version_and_stores_both"),
    Mutant("what is no number passes the gate's floor", "tasks/promote/gate.py", "if not low >= -gate.floor",
           "if low < -gate.floor", "test_promote.py::test_a_fall_that_is_no_number_is_refused"),
    Mutant("a broken link passes", "tasks/register/verify.py", "if digest != recorded]", "if False]",
           "test_lineage.py::test_a_changed_link_is_named"),
    Mutant("a record is its own exemplar", "tasks/render/draws.py",
           "if exemplar.id != record.id and _input(exemplar) != asked:", "if True:",
           "test_draws.py::test_exemplars_come_from_the_pool_and_never_are_the_record_or_one_with_its_input"),
    Mutant("an exemplar's record is not listed as trained on", "tasks/register/trained_on.py",
           ', frame["exemplars"].explode().drop_nulls())', ")",
           "test_register.py::test_a_record_that_is_only_an_exemplar_was_trained_on"),
    Mutant("an exemplar tells the answer", "tasks/render/templates.py",
           "if not gives_away(shot, answer)", "if shot",
           "test_templates.py::test_an_exemplar_that_holds_a_long_answer_is_left_out"),
    Mutant("a licence that is not allowed passes", "tasks/ingest/rights.py", "not in known", "in known",
           "test_rights.py::test_a_licence_that_is_not_allowed_stops_the_run_and_tells_the_remedies"),
    Mutant("a forgotten record comes back", "tasks/ingest/rights.py", "if content_of(record.id) in", "if record.id in",
           "test_rights.py::test_a_forgotten_record_is_left_out_of_the_next_run_without_its_text"),
    Mutant("a person stands in clear", "tasks/ingest/formats/__init__.py", "person_digest(told) if", "told if",
           "test_rights.py::test_a_person_s_records_are_forgotten_by_name_and_no_file_holds_it"),
    Mutant("a shared instruction makes duplicates", "tasks/ingest/near.py", "alike[open_] = (", "alike[open_] |= (",
           "test_clean.py::test_rows_of_one_long_instruction_are_no_near_duplicates"),
    Mutant("a run begins without its source", "tasks/preflight.py", "if path.exists():", "if True:",
           "test_preflight.py::test_all_faults_are_told_at_once_each_with_the_nearest_right_value"),
    Mutant("Prefect's temporary server hears Ctrl-C", "flows/pipeline.py", "signal.SIG_BLOCK, {signal.SIGINT}",
           "signal.SIG_BLOCK, set()", "test_pipeline.py::test_the_temporary_server_does_not_hear_ctrl_c"),
    Mutant("a variant of a sweep is registered", "tasks/register/__main__.py", "if variant := settings.experiment():",
           "if variant := None:", "test_register.py::test_a_variant_of_a_sweep_is_not_registered"),
    Mutant("the last of two equal keys is taken", "tasks/sheets.py", "in lines:", "in ():",
           "test_sheets.py::test_a_key_that_stands_twice_is_refused_with_file_and_line"),
    Mutant("a benchmark of a trained cluster passes", "tasks/render/__main__.py",
           "included.clusters(include, everything.evaluate)", "{}",
           "test_include.py::test_a_benchmark_of_a_trained_cluster_stops_the_run"),
    Mutant("included documents are not looked for", "tasks/render/__main__.py", "asked += included.suites",
           "included.suites",
           "test_include.py::test_a_training_record_that_shares_text_with_an_included_document_is_dropped"),
    Mutant("a benchmark's data lies where no change is seen", "tasks/include/folders.py",
           "if not place.is_relative_to(root):", "if False:",
           "test_include.py::test_data_outside_the_folder_is_refused_with_the_remedy"),
    Mutant("a right answer beyond the choices passes", "tasks/include/documents.py",
           " or int(target) >= len(choices)", "",
           "test_include.py::test_a_document_that_cannot_be_asked_or_scored_is_told_with_its_number"),
    Mutant("a field that a document lacks is printed", "tasks/include/documents.py", "utils.env.finalize, _said",
           "utils.env.finalize, None",
           "test_include.py::test_a_document_that_cannot_be_asked_or_scored_is_told_with_its_number"),
    Mutant("a field that no document has is asked as it stands", "tasks/include/documents.py",
           "word not in fields and not answer", "False",
           "test_include.py::test_what_lm_eval_does_not_know_is_told_with_the_nearest_name"),
    Mutant("a layer that the model lacks passes", "tasks/train/targets.py", "missing, layers)", "[], layers)",
           "test_adapters.py::test_a_layer_that_the_model_lacks_is_told_beside_one_that_it_has"),
    Mutant("other documents than were included pass", "tasks/guards.py",
           "if included.get(name) != loaded.get(name)", "if False",
           "test_guards.py::test_documents_that_are_not_those_that_were_included_are_stopped"),
    Mutant("a silent model passes", "tasks/guards.py", "if answers and not any(", "if False and not any(",
           "test_guards.py::test_a_model_that_says_nothing_is_stopped"),
    Mutant("an answer that went on counts as ended", "tasks/evaluate/endings.py", "return not any(", "return bool(",
           "test_evaluate.py::test_an_answer_that_ends_its_turn_before_any_stop_text_ended_by_itself"),
    Mutant("a template agrees with itself", "tasks/evaluate/wordings.py",
           'row["answer"].casefold()] - 1)', 'row["answer"].casefold()] - 0)',
           "test_evaluate.py::test_consistency_is_the_share_of_pairs_of_templates_with_the_same_answer"),
    Mutant("a control keeps its instruction", "tasks/render/wording.py", "name not in INSTRUCTING", "True",
           "test_wording.py::test_an_instruction_that_a_record_brings_is_none_of_its_input"),
    Mutant("an inverted template comes before direct ones", "tasks/render/wording.py", 'one.kind != "direct"',
           'one.kind == "direct"',
           "test_wording.py::test_fewer_templates_are_some_of_more_and_direct_ones_come_first"),
    Mutant("all clusters are trained on", "tasks/render/mixture.py", "return order[: wanted.clusters]", "return order",
           "test_wording.py::test_fewer_clusters_are_trained_on_with_as_many_examples"),
    Mutant("few seeds seem surer than they are", "tasks/variants/scores.py", "np.sqrt(seeds / (seeds - 1)) * ", "",
           "test_variants.py::test_seeds_that_differ_widen_the_interval_as_much_as_their_own_spread_says"),
    Mutant("related documents are drawn alone", "tasks/variants/scores.py", "groups = one.groups",
           "groups = np.arange(len(one.groups))",
           "test_variants.py::test_documents_of_one_group_are_drawn_together"),
    Mutant("a comparison is not corrected", "tasks/variants/story.py",
           "statistics.holm([one.p for one in found])", "[one.p for one in found]",
           "test_variants.py::test_p_is_corrected_for_all_comparisons"),
    Mutant("the conclusion is written beforehand", "tasks/variants/conclusions.py", "if not better:", "if False:",
           "test_variants.py::test_the_conclusion_says_that_instruction_tuning_did_not_help"),
    Mutant("a kept run is computed again", "flows/experiments.py", "return bool(noted ==", "return bool(noted !=",
           "test_checkouts.py::test_a_run_is_kept_as_long_as_its_commit_params_and_experiment_are_there"),
    Mutant("Ctrl-C waits for the flow", "flows/processes.py", "signal.signal(signal.SIGINT, heard)",
           "signal.getsignal(signal.SIGINT)",
           "test_processes.py::test_ctrl_c_ends_the_runs_at_once_although_a_flow_s_code_goes_on"),
    Mutant("experiments of what is not committed", "flows/experiments.py", "    if changed:\n", "    if False:\n",
           "test_checkouts.py::test_a_changed_tree_is_refused_with_the_remedy"),
]  # fmt: skip


def survives(mutant: Mutant, folder: Path) -> bool:
    """Whether the mutant's test passes in `folder` although the code is broken. LookupError where it is stale."""
    path = folder / mutant.file
    sound = path.read_text(encoding="utf-8")
    if sound.count(mutant.old) == 0:
        raise LookupError(f"{mutant.name}: {mutant.file} holds no {mutant.old!r} any more")
    path.write_text(sound.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", f"tests/{mutant.test}"],
            cwd=folder,
            capture_output=True,
            text=True,
        )
    finally:
        path.write_text(sound, encoding="utf-8")
    if done.returncode not in (0, 1):
        raise LookupError(f"{mutant.name}: {mutant.test} did not run: {done.stdout[-600:]}{done.stderr[-300:]}")
    return done.returncode == 0


def main(files: list[str]) -> None:
    """Try the mutants of these files, or all, some side by side; exit status 1 where one survives."""
    tried = [mutant for mutant in MUTANTS if not files or mutant.file in files]
    survivors = []
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(WORKERS) as pool:
        folders: SimpleQueue[Path] = SimpleQueue()
        for number in range(WORKERS):
            folder = Path(scratch) / str(number)
            shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*LEFT_OUT))
            folders.put(folder)

        def lives(mutant: Mutant) -> bool:
            folder = folders.get()
            try:
                return survives(mutant, folder)
            finally:
                folders.put(folder)

        for number, (mutant, alive) in enumerate(zip(tried, pool.map(lives, tried), strict=True), start=1):
            survivors += [mutant.name] if alive else []
            told = "SURVIVED" if alive else "noticed"
            print(f"{number} of {len(tried)}: {mutant.name}: {told} ({mutant.test})", flush=True)
    print(f"{len(tried) - len(survivors)} passed, {len(survivors)} failed")
    sys.exit(bool(survivors))


if __name__ == "__main__":
    main(sys.argv[1:])
