//! The page: its head, its order, and the explanations that do not depend on the results.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::results::Results;

use super::{
    curves,
    gap::gap,
    group::Comparison,
    layers,
    lost::lost,
    number::{count, counted, percent},
    outcome,
    overview::overview,
    palette::style,
    price::price,
    summary, tables,
    verdict::Verdict,
};

pub(super) const STYLE: &str = include_str!("style.css");

/// Writes the whole page.
pub(super) fn page(results: &Results) -> Markup {
    let comparisons = Comparison::all(results);
    let parts = [(LOST, "lost", lost(&comparisons)), (PRICE, "price", price(&comparisons))];
    let parts = parts.map(|(heading, id, part)| part.map(|part| (heading, id, part)));
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "Loss scaling compared" }
                // The style holds no text of the results.
                style { (PreEscaped(STYLE)) (PreEscaped(style())) }
            }
            body {
                (patterns())
                header {
                    h1 { "Loss scaling compared" }
                    p { "The same networks, trained with gradients in low-precision formats; only \
                        the way to choose the loss scale differs. f32 is the training without low \
                        precision." }
                }
                (overview(&comparisons))
                (gap(&comparisons))
                (contents(&comparisons, &parts))
                main {
                    section #summary {
                        h2 { "What happened" }
                        (summary::summary(results, &comparisons))
                    }
                    @for (heading, id, part) in &parts {
                        section #(id) { h2 { (heading) } (part) }
                    }
                    section #terms { h2 { "The terms" } (terms()) }
                    @for (index, comparison) in comparisons.iter().enumerate() {
                        section #{ "task" (index) } { (task(comparison, index)) }
                    }
                    section #about { h2 { "About these runs" } (about(results)) }
                }
            }
        }
    }
}

/// Defines what marks a missing value in every picture.
fn patterns() -> Markup {
    html! {
        svg width="0" height="0" style="position:absolute" aria-hidden="true" {
            defs {
                pattern #hatch width="5" height="5" patternUnits="userSpaceOnUse"
                    patternTransform="rotate(45)" {
                    path.hatch d="M0 0V5" {}
                }
            }
        }
    }
}

/// The heading of accuracy over what is lost.
const LOST: &str = "Does it cost anything to lose some?";

/// The heading of what each method loses over the passes that it takes.
const PRICE: &str = "What does it take to lose less?";

fn contents(comparisons: &[Comparison<'_>], parts: &[(&str, &str, Markup)]) -> Markup {
    html! {
        nav aria-label="Contents" {
            ul {
                li { a href="#summary" { "What happened" } }
                @for (heading, id, _) in parts { li { a href={ "#" (id) } { (heading) } } }
                li { a href="#terms" { "The terms" } }
                @for (index, comparison) in comparisons.iter().enumerate() {
                    li {
                        a href={ "#task" (index) } { (comparison.task.name) } ": "
                        @for (place, (id, name)) in PARTS.iter().enumerate() {
                            @if place > 0 { " \u{b7} " }
                            a href={ "#task" (index) "-" (id) } { (name) }
                        }
                    }
                }
                li { a href="#about" { "About these runs" } }
            }
        }
    }
}

/// The parts of a task's section, by anchor and by heading.
const PARTS: [(&str, &str); 5] = [
    ("metric", "At the end"),
    ("steps", "Steps to the target"),
    ("curves", "Training curves"),
    ("layers", "Inside the network"),
    ("tables", "Tables"),
];

fn task(comparison: &Comparison<'_>, index: usize) -> Markup {
    let task = &comparison.task;
    let part = |place: usize| {
        let (id, name) = PARTS[place];
        html! { h3 #{ "task" (index) "-" (id) } { (name) } }
    };
    html! {
        h2 { (task.name) }
        p {
            "Network: " (task.network) ", " (counted(task.parameters as usize, "parameter"))
            ". Data: " (task.data) ". Schedule: " (task.schedule) ". What counts is " (task.metric)
            " on the test samples; the target is "
            (percent(task.target)) " %."
        }
        (part(0)) (outcome::metric(comparison))
        (part(1)) (outcome::steps(comparison))
        (part(2)) (curves::curves(comparison))
        (part(3)) (inside(comparison))
        (part(4)) (tables::places(comparison)) (tables::costs(comparison))
        details { summary { "Configuration of every method" } (tables::configurations(comparison)) }
    }
}

/// Draws the layers of every format; the one with most failures is open.
fn inside(comparison: &Comparison<'_>) -> Markup {
    let failures = |format: &str| {
        let verdicts = comparison.rivals_in(format).map(|(group, _)| comparison.verdict(group));
        verdicts.filter(|verdict| Verdict::has_failed(*verdict)).count()
    };
    let mut open = 0;
    for (index, format) in comparison.formats.iter().enumerate() {
        if failures(format) > failures(comparison.formats[open]) {
            open = index;
        }
    }
    html! {
        @for (index, format) in comparison.formats.iter().enumerate() {
            details.format open=[(index == open).then_some("open")] {
                summary { strong { (format) }
                    @match failures(format) {
                        0 => ", no method failed",
                        failed => { ", " (counted(failed, "method")) " failed" }
                    }
                }
                (layers::layers(comparison, format))
            }
        }
    }
}

fn terms() -> Markup {
    html! {
        dl.terms {
            dt { "Loss scale" } dd { "A power of two, 2" sup { "K" } ", that a gradient is \
                multiplied by on the way back and divided by before the weights change. It moves \
                small values into the range of the format and changes nothing else." }
            dt { "Underflow" } dd { "A nonzero value that becomes zero because it is too small \
                for the format. Shown as the share of nonzero elements." }
            dt { "Overflow" } dd { "A value too large for the format. The layer is replayed at the \
                greatest scale that fits, or it saturates, or the step is skipped." }
            dt { "Lost mass" } dd { "The share of the sum of magnitudes that underflowed, as an \
                upper bound: many tiny elements may be little mass." }
            dt { "Clipped mass" } dd { "The share of the sum of magnitudes that lay above the format's \
                largest number, as an upper bound: what saturating takes away." }
            dt { "Lost %" } dd { "In tables: the mean share of the mass that did not arrive. Of a step \
                that reached the weights it is what underflowed and what was clipped, the mean over all visits of its \
                gradient tensors; of a step that was skipped it is all. Skipped steps are counted over the whole run, the \
                others at the steps that were looked at." }
            dt { "Error %" } dd { "The norm of the difference between a weight's gradient and that of the same \
                way back in f32, over the norm of the latter: the median over weights, probed steps and seeds, and \
                after the dots that of the worst weight. A gradient that is not finite counts as worse than any other; a \
                dash where that is the median. Weights \
                and activations are the same for both, in the method's own format (bfloat16 without scaling: bfloat16; 8 \
                bits: binary16), so that it is the error of the way back alone, and not of the way forward." }
            dt { "Window" } dd { "The scales that keep underflow within the tolerance and \
                overflow at zero. Some tensors have none, whatever the method." }
            dt { "Kept" } dd { "Of the visits with a window, the share in which real underflow \
                stayed within twice the tolerance." }
        }
        h3 { "The methods" }
        dl.terms {
            dt { "f32" } dd { "Everything in 32 bits: what the others are compared with." }
            dt { "none" } dd { "No scale; K is 0." }
            dt { "bfloat16" } dd { "No scale either, and everything in bfloat16 instead of another format of 16 \
                bits: more range, fewer digits." }
            dt { "fixed:K" } dd { "2" sup { "K" } " for every layer, chosen by hand." }
            dt { "backoff" } dd { "One scale for all, halved on overflow, doubled after many \
                clean steps." }
            dt { "backoff-skip" } dd { "The same in 8 bits, where backoff saturates: a step in which something overflows \
                is skipped." }
            dt { "backoff-per-loss" } dd { "The same for each of two losses, with a backward pass for each. The \
                second pass through shared layers is an extra pass, and its tensors are named with \u{201c}again\u{201d}." }
            dt { "mx" } dd { "One for each block of 32 elements, from the largest of the block, as OCP \
                Microscaling has it; simulated. No pass measures, and no scale per tensor can be shown. It costs 8 bits \
                per 32 elements, and a product that sums along another axis needs the tensor quantised again." }
            dt { "amax" } dd { "One per layer, from the largest magnitudes of steps before." }
            dt { "normal" } dd { "One per layer, from a Gaussian model of its values: the \
                paper's." }
            dt { "range" } dd { "One per layer, from the extremes of the products." }
            dt { "measured" } dd { "One per layer, from the largest magnitudes of its last steps, as \
                high as an occasional replay allows: ours." }
        }
    }
}

fn about(results: &Results) -> Markup {
    let memory = results.peak_memory_bytes.map(|bytes| count(bytes >> 20) + " MiB");
    html! {
        dl.terms {
            dt { "Command" } dd { code { (results.command) } }
            dt { "Version" }
            dd { "adaloss " (results.adaloss) ", results of version " (results.version) }
            dt { "Machine" } dd { (results.target) ", " (counted(results.threads, "thread")) }
            dt { "Peak memory" } dd { (memory.unwrap_or("not known".into())) }
        }
        @if results.version < Results::VERSION {
            p { "In results of version " (results.version) " a window left one or two binades free \
                below overflow, and measured chose a scale within it once in a period." }
        }
        p { "Every figure is in results.json, runs.csv, cells.csv, curves.csv and weights.csv \
            beside this page." }
    }
}
