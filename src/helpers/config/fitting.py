"""Do the sections of a config fit together? Each check refuses one kind of what does not, with the key and the next step."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from pydantic_core import PydanticCustomError

from helpers.config.load import Search
from helpers.config.mix import MIXED, prompts_asked_of
from helpers.config.options import ImportedOption, PythonOption, SageMakerOption
from helpers.config.strict import slug
from helpers.config.structured import structured_keys

if TYPE_CHECKING:
    from helpers.config.benchmark import BenchmarkConfig


def refuse_what_does_not_fit(config: BenchmarkConfig) -> None:
    """Raise PydanticCustomError for the first thing that does not fit; its context has the `path` of the key."""
    for check in CHECKS:
        check(config)


def _refuse(why: str, *path: str | int) -> NoReturn:
    raise PydanticCustomError("inconsistent", why, {"path": list(path)})


def _measured_or_imported(config: BenchmarkConfig) -> None:
    imported = [isinstance(option, ImportedOption) for option in config.options]
    if any(imported) and not all(imported):
        _refuse(
            "imported and measured options cannot be in one config. Expected `target: imported` for all options or "
            "for none. Next: write two configs",
            "options",
            imported.index(True),
            "target",
        )
    for name in () if config.imported else ("prompts", "generation"):
        if getattr(config, name) is None:
            _refuse("this key is required. Next: add it", name)


def _names_fit_together(config: BenchmarkConfig) -> None:
    names_of_options = [o.name for o in config.deployed().options]
    for kind, names in (("option", names_of_options), ("dataset", [d.name for d in config.datasets])):
        slugs = [slug(name) for name in names]
        for i, one in enumerate(slugs):
            if one in slugs[:i]:
                _refuse(
                    f"{kind} names {names[slugs.index(one)]!r} and {names[i]!r} give the same file name {one!r}. "
                    "Next: rename one",
                    f"{kind}s",
                    i // (config.endpoints.replicates if kind == "option" else 1),
                    "name",
                )
    known = [dataset.name for dataset in config.datasets]
    used: set[str] = set()
    for i, option in enumerate(config.options):
        named = [(["datasets", j], name) for j, name in enumerate(option.datasets or [])]
        named += option.names_of_datasets() if isinstance(option, ImportedOption) else []
        for at, name in named:
            if name not in known:
                raise PydanticCustomError(
                    "missing_dataset",
                    f"option {option.name!r} names a dataset that is not under `datasets`",
                    {"path": ["options", i, *at], "bad": name, "allowed": known},
                )
        used.update(option.datasets or known)
    for i, name in enumerate(known):
        if name not in used:
            _refuse(
                f"no option uses dataset {name!r}. Next: delete it, or name it in an option's `datasets`",
                "datasets",
                i,
                "name",
            )
    for name in config.traffic.mix or {}:
        if name not in known:
            raise PydanticCustomError(
                "missing_dataset",
                "the traffic mix names a dataset that is not under `datasets`",
                {"path": ["traffic", "mix", name], "bad": name, "allowed": known},
            )


def _a_cluster_loads_one_at_a_time(config: BenchmarkConfig) -> None:
    at_once = config.endpoints.max_parallel_loads or 1
    if config.load.cluster is not None and at_once > 1:
        _refuse(
            f"{at_once} endpoints cannot be loaded at once with load.cluster, whose nodes all send to one. Next: "
            "leave it out",
            "endpoints",
            "max_parallel_loads",
        )


def _replicates_can_be_made(config: BenchmarkConfig) -> None:
    if config.endpoints.replicates == 1:
        return
    made = [isinstance(o, PythonOption) or (isinstance(o, SageMakerOption) and o.deploy) for o in config.options]
    why = (
        f"option {config.options[made.index(False)].name!r} is not deployed by the run, so there is one of it"
        if not all(made)
        else "the bounds of a race or a search hold for one endpoint of each option, looked at again and again"
        if config.load.race.enabled or isinstance(config.load, Search)
        else "a control block (load.control) compares one endpoint with itself"
        if config.load.control
        else None
    )
    if why:
        _refuse(
            f"{config.endpoints.replicates} replicates cannot be measured: {why}. Expected options that the run deploys, a "
            "load of fixed levels, race: false and no control. Next: change that, or leave out `replicates`",
            "endpoints",
            "replicates",
        )


def _prefix_or_salt(config: BenchmarkConfig) -> None:
    if config.prompts is not None and config.prompts.prefix is not None and config.load.prefix_cache_salt:
        _refuse(
            "a salt before each prompt leaves nothing of prompts.prefix to share. Expected one of the two. Next: set "
            "load.prefix_cache_salt: false (behind a prefix each request has a salt anyway), or delete prompts.prefix",
            "load",
            "prefix_cache_salt",
        )
    groups = 1 if config.prompts is None or config.prompts.prefix is None else config.prompts.prefix.groups
    for dataset in config.datasets:
        if groups > 1 and groups > dataset.count / 2:
            _refuse(
                f"{groups} groups of the {dataset.count} prompts of dataset {dataset.name!r} leave prompts that share their "
                "beginning with no other. Expected at least two prompts for each group. Next: lower it, or raise `count`",
                "prompts",
                "prefix",
                "groups",
            )


def _structure_can_be_asked_for(config: BenchmarkConfig) -> None:
    for i, option in enumerate([] if config.imported or config.generation is None else config.options):
        try:
            structured_keys(option.request_api, config.generation)
        except ValueError as error:
            _refuse(f"option {option.name!r}: {error}", "options", i)


def _imported_answers_are_whole(config: BenchmarkConfig) -> None:
    if config.imported and config.slo.ttfa_s is not None:
        _refuse(
            "imported results do not tell thinking from answers, so the first token of an answer is not known. Expected a "
            "limit that they hold. Next: write ttft_s or latency_s",
            "slo",
            "ttfa_s",
        )


def _answers_can_be_scored(config: BenchmarkConfig) -> None:
    if config.quality is None:
        return
    path, why = _unfit_quality(config) or ([], None)
    if why is not None:
        _refuse(why, "quality", *path)
    gate = config.quality.gate and config.quality.gate.not_worse_than
    names = [option.name for option in config.options]
    if gate is not None and gate.option not in names:
        raise PydanticCustomError(
            "missing_dataset",
            "the gate compares with an option that is not under `options`",
            {
                "path": ["quality", "gate", "not_worse_than", "option"],
                "bad": gate.option,
                "allowed": names,
            },
        )


def _unfit_quality(config: BenchmarkConfig) -> tuple[list[str], str] | None:
    """A key of `quality` and what is wrong with it, given the rest of the config."""
    if config.imported:
        return [], "imported results hold no answers. Next: delete quality"
    if config.conversations is not None:
        return [], "turns of prompts.conversations have no reference answers. Next: delete one of the two"
    kind, reference = config.prompts.source.kind, config.quality.reference
    if kind == "python_reference":
        return (
            [],
            "the Python reference has no answers. Next: set prompts.source to a file that has, or delete quality",
        )
    if kind == "sharegpt" and reference is not None:
        return ["reference"], "of a source of kind sharegpt it is the reply. Next: delete it, or write `kind: file`"
    if reference is None and kind != "sharegpt" and config.prompts.source.answer is None:
        return ["reference"], "prompts.source.answer is null, so no column has the right answer. Next: name one"
    context, most = config.model.context_tokens, config.quality.max_output_tokens or 0
    longest = min(
        max(dataset.prompt_tokens[1] for dataset in config.datasets) - 1, context - config.generation.max_output_tokens
    )
    if longest + most > context:
        return ["max_output_tokens"], (
            f"prompts of up to {longest} tokens and {most} output tokens exceed model.context_tokens {context}. "
            "Next: lower it, or the prompt_tokens of the datasets"
        )
    if config.quality.judge is not None and config.quality.gate is not None and config.load.race.enabled:
        return ["gate"], (
            "a judge is asked when all load is over, and a race goes by the gate before that. Next: write load.race: false, "
            "choose another scorer, or delete the gate"
        )
    if config.quality.gate is not None and config.quality.gate.not_worse_than is not None and len(config.options) == 1:
        return ["gate", "not_worse_than"], "there is no other option to compare. Next: add one, or write min_score"
    return None


def _limits_can_be_measured(config: BenchmarkConfig) -> None:
    why = (
        "results are imported"
        if config.imported
        else "a search needs its limit before it sends"
        if isinstance(config.load, Search)
        else None
    )
    for name in config.slo.multiples():
        if why:
            _refuse(
                f"times_single_request cannot be used here: {why}. Expected a number of seconds. Next: write one",
                "slo",
                name,
            )


def _waits_as_long_as_the_slo(config: BenchmarkConfig) -> None:
    timeout_s = config.load.request_timeout_s
    for name in () if config.imported else ("latency_s", "ttft_s", "ttfa_s"):
        limit = getattr(config.slo, name)
        if isinstance(limit, float) and limit > timeout_s:
            _refuse(
                f"{timeout_s:g} s are less than slo.{name}, {limit:g} s: an answer within that limit may be given up, and counts "
                f"as a failure. Expected {limit:g} s or more. Next: raise it, or lower the limit",
                "load",
                "request_timeout_s",
            )


def _conversations_can_be_sent(config: BenchmarkConfig) -> None:
    if config.conversations is None or config.imported:
        return
    for i, option in enumerate(config.options):
        if option.request_api not in ("openai_chat", "bedrock_converse"):
            _refuse(
                f"prompts.conversations needs a chat API, OpenAI's or Bedrock's, and the api of option {option.name!r} is "
                f"{option.request_api}. Expected openai_chat, or target bedrock. Next: change `api`, or leave out "
                "prompts.conversations",
                "options",
                i,
                "api",
            )
        if option.adapters:
            _refuse(
                f"adapters are drawn for single requests, and option {option.name!r} is sent prompts.conversations. Next: "
                "leave out `adapters`",
                "options",
                i,
                "adapters",
            )
    if config.load.kind not in ("closed_loop", "open_loop"):
        _refuse(
            f"sessions of prompts.conversations cannot be sent by a load of kind {config.load.kind}. Expected closed_loop, "
            "with users as its concurrency, or open_loop, with sessions per second as its rate. Next: write one of them",
            "load",
            "kind",
        )
    unfit = {
        "race": config.load.race.enabled
        and "each block of a race would begin all sessions anew, at their short first turns",
        "control": config.load.control and "a control block would begin all sessions anew, at their short first turns",
    }
    for name, why in unfit.items():
        if why:
            _refuse(
                f"`{name}` cannot be used with prompts.conversations: {why}. Next: leave out `{name}`", "load", name
            )
    config.load.is_made_by_sessions()


def _bins_are_of_turns(config: BenchmarkConfig) -> None:
    names = [dataset.name for dataset in config.datasets]
    for i, dataset in enumerate(config.datasets):
        if dataset.bins and (config.conversations is None or config.imported):
            _refuse(
                "the bins of a dataset are for the turns of prompts.conversations, and there are none. Next: give each bin a "
                "dataset of its own, or add prompts.conversations",
                *("datasets", i, "bins"),
            )
        for j, each in enumerate(dataset.bins or ()):
            if each.name in names:
                _refuse(
                    f"{each.name!r} is the name of two bins, or of a bin and a dataset. Expected names that differ. Next: rename "
                    "one",
                    *("datasets", i, "bins", j, "name"),
                )
            names.append(each.name)


def _can_be_mixed(config: BenchmarkConfig) -> None:
    if config.load.mix is None:
        return
    names, shares, leave_out = [d.name for d in config.datasets], config.shares_of_parts(), "Next: leave out `mix`, or"
    why = None
    if config.imported:
        why = f"imported results are what they are: they cannot be mixed. {leave_out} measure"
    elif len(names) < 2:
        why = (
            f"there is one dataset, {names[0]!r}, and nothing to mix it with. Expected two or more. {leave_out} add one"
        )
    elif config.conversations is not None:
        why = (
            "sessions of prompts.conversations send many requests each, so the shares of the traffic, which are of requests, "
            f"would not be kept. {leave_out} prompts.conversations"
        )
    elif config.prompts.prefix is not None:
        why = (
            "prompts.prefix asks a hit rate of each dataset by itself, and those in a mix share one cache. "
            f"{leave_out} prompts.prefix"
        )
    if why:
        _refuse(why, "load", "mix")
    for i, name in enumerate(names):
        if slug(name) == MIXED:
            words = (
                f"bad value {MIXED!r}: with load.mix it is the name of the mix. Expected another name. Next: rename it"
            )
            _refuse(words, "datasets", i, "name")
        if not shares.get(name):
            _refuse(
                f"dataset {name!r} has no share of the traffic, so a mix does not hold it. Expected a share above 0 for each "
                "dataset. Next: give it one, or delete the dataset",
                *("traffic", "mix"),
            )
    for i, option in enumerate(config.options):
        if option.datasets and set(option.datasets) != set(names):
            _refuse(
                f"an option is sent the whole mix (load.mix), not some of its parts. Expected all of {', '.join(names)}. Next: "
                "leave out `datasets`, or `load.mix`",
                *("options", i, "datasets"),
            )


def _prompts_suffice(config: BenchmarkConfig) -> None:
    if config.imported:
        return
    # how many turns conversations have is not known yet
    needed = config.load.fewest_prompts() if config.conversations is None else 0
    for i, dataset in enumerate(config.datasets):
        low, asked = dataset.prompt_tokens[0], prompts_asked_of(config, dataset, needed)
        if dataset.count < asked and not (config.load.repeat_prompts or config.load.may_bring_prompts):
            of_these = f", {asked} from this dataset with load.mix," if config.load.mix is not None else ""
            _refuse(
                f"{dataset.count} prompts are too few: a load point sends up to {needed} (warm-up, min_requests and "
                f"drain at the highest concurrency){of_these} and prompts are not repeated. Next: raise `count`, lower "
                "load.min_requests, or set load.repeat_prompts: true",
                "datasets",
                i,
                "count",
            )
        if low + config.generation.max_output_tokens > config.model.context_tokens:
            _refuse(
                f"prompts of {low} tokens and {config.generation.max_output_tokens} output tokens exceed "
                f"model.context_tokens {config.model.context_tokens}. Next: lower one of the two, or raise context_tokens",
                "datasets",
                i,
                "prompt_tokens",
            )


CHECKS = (
    _measured_or_imported,
    _names_fit_together,
    _a_cluster_loads_one_at_a_time,
    _replicates_can_be_made,
    _prefix_or_salt,
    _structure_can_be_asked_for,
    _imported_answers_are_whole,
    _answers_can_be_scored,
    _limits_can_be_measured,
    _waits_as_long_as_the_slo,
    _conversations_can_be_sent,
    _bins_are_of_turns,
    _can_be_mixed,
    _prompts_suffice,
)
"""In the order in which faults are named."""
