//! One training step under the glass.

use adaloss_core::{
    format::Element,
    policy::{Cell, Config, Measured, Operands, decide, decide_from_operands, outgoing},
    scale::Scale,
    scaler::Visit,
    statistics::Histogram,
};
use adaloss_hal::Plain;
use anyhow::{Result, ensure};
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};

use crate::{
    NetworkArgs,
    dataset::Dataset,
    method::Method,
    network::Observer,
    trainer::{Job, Trainer, dispatch},
};

/// What is looked at.
#[derive(Args, Debug)]
pub struct InspectArgs {
    /// Steps to train, with `measured`, before the one that is looked at.
    #[arg(long, default_value_t = 100)]
    steps: u64,
    /// The policies to ask.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "none,fixed:8,fixed:16,backoff,amax,normal,range,measured"
    )]
    methods: Vec<Method>,
    #[command(flatten)]
    network: NetworkArgs,
}

/// Prints, per gradient tensor, what each policy would choose and what would become of the tensor.
pub fn inspect(args: &InspectArgs) -> Result<()> {
    let dataset = args.network.data.open()?;
    dispatch(args.network.format, Look { args, dataset: &dataset })
}

struct Look<'a> {
    args: &'a InspectArgs,
    dataset: &'a Dataset,
}

/// What one visit met.
struct Seen {
    name: String,
    visit: Visit,
    results: Histogram,
    operands: Option<Operands>,
}

/// Keeps the visits of one step.
#[derive(Default)]
struct Keep(Vec<Seen>);

impl Observer for Keep {
    fn visited(
        &mut self,
        name: &str,
        visit: &Visit,
        results: &Histogram,
        operands: &dyn Fn() -> Option<Operands>,
    ) {
        let (visit, results) = (*visit, *results);
        self.0.push(Seen { name: name.into(), visit, results, operands: operands() });
    }
}

/// Looks away.
struct Ignore;

impl Observer for Ignore {
    fn visited(&mut self, _: &str, _: &Visit, _: &Histogram, _: &dyn Fn() -> Option<Operands>) {}
}

impl Job for Look<'_> {
    type Output = ();

    fn run<W: Element + Plain, G: Element + Plain>(self) -> Result<()> {
        let args = self.args;
        let settings = args.network.settings(Method::Measured, 10);
        let mut trainer = Trainer::<W, G>::new(settings, self.dataset)?;
        ensure!(
            args.steps < trainer.last_step(),
            "there is no step after {} of {}; raise the epochs",
            args.steps,
            trainer.last_step()
        );
        for _ in 0..args.steps {
            let _verdict = trainer.train_step(&mut Ignore)?;
        }
        let mut keep = Keep::default();
        let verdict = trainer.train_step(&mut keep)?;

        println!(
            "{} in {}, step {} (verdict: {verdict:?})",
            args.network.task, args.network.format, args.steps
        );
        println!(
            "Per tensor: the scale that each policy would choose, and how many of the nonzero\n\
             elements would underflow and overflow at it, exactly.\n"
        );
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN);
        let fixed = ["tensor", "nonzero", "largest", "window"].map(String::from);
        table.set_header(fixed.into_iter().chain(args.methods.iter().map(Method::to_string)));
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        for seen in &keep.0 {
            table.add_row(row(seen, args)?);
        }
        println!("{table}");
        Ok(())
    }
}

fn row(seen: &Seen, args: &InspectArgs) -> Result<Vec<String>> {
    let Seen { name, visit, results, operands } = seen;
    let recommended = Measured::for_format(args.network.format.0);
    let largest = visit.outcome.max_abs() / visit.incoming.factor();
    let mut row = vec![
        name.clone(),
        results.nonzero().to_string(),
        format!("{largest:.1e}"),
        window(&recommended, results),
    ];
    for method in &args.methods {
        let config = method.config(args.network.format.0, 1)?;
        row.push(match choose(&config, results, operands.as_ref(), visit.incoming) {
            Some(scale) => format!(
                "2^{}: {}/{}",
                scale.log2(),
                results.underflow(scale),
                results.overflow(scale)
            ),
            None => "carried".into(),
        });
    }
    Ok(row)
}

/// Returns the scales that keep the tolerance and the headroom of `measured`.
fn window(measured: &Measured, results: &Histogram) -> String {
    let window = measured.window(results);
    if results.nonzero() == 0 {
        "all zero".into()
    } else if window.width(measured.headroom) == 0 {
        "empty".into()
    } else {
        format!("{}..={}", window.least, window.greatest - i16::from(measured.headroom))
    }
}

/// Returns what a policy that sees this tensor for the first time chooses.
fn choose(
    config: &Config,
    results: &Histogram,
    operands: Option<&Operands>,
    incoming: Scale,
) -> Option<Scale> {
    let mut cell: Cell = config.cell();
    if config.policy().wants_operands() {
        decide_from_operands(config, operands?, incoming, &mut cell);
    } else {
        decide(config, results, &mut cell);
    }
    Some(outgoing(config, &cell, incoming))
}
