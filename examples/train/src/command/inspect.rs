//! One training step under the glass.

use adaloss_core::{
    format::Element,
    policy::{Config, Measured, Operands, decide_from_operands, note, outgoing},
    scale::Scale,
    scaler::Visit,
    statistics::Histogram,
};
use adaloss_hal::Plain;
use adaloss_train::{
    data::Dataset,
    layer::{Machine, NoObserver, Observer},
    method::{FormatName, Method},
    say,
    task::Task,
    trainer::{Settings, Trainer},
};
use anyhow::{Result, ensure};
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};

use super::{
    RunArgs,
    machine::{DeviceName, Job, dispatch},
    say_left_out,
};

/// What is looked at.
#[derive(Args, Debug)]
pub(crate) struct InspectArgs {
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
    run: RunArgs,
}

/// Prints, per gradient tensor, what each policy would choose and what would become of the tensor.
///
/// # Errors
///
/// Something asked for is impossible, or a file cannot be read.
pub(crate) fn inspect(args: &InspectArgs) -> Result<()> {
    ensure!(
        !args.methods.contains(&Method::Mx),
        "inspect shows one scale for each tensor, and mx has one for each block: leave it out"
    );
    let task = args.run.task()?;
    let dataset = task.open(&args.run.data)?;
    let job = Look { args, task: &task, dataset: &*dataset };
    dispatch(DeviceName::Cpu, 1, &job.settings(), job)?;
    say_left_out(&*dataset);
    Ok(())
}

struct Look<'a> {
    args: &'a InspectArgs,
    task: &'a Task,
    dataset: &'a dyn Dataset,
}

impl Look<'_> {
    fn settings(&self) -> Settings {
        self.args.run.settings(Method::MEASURED, Config::NEVER)
    }
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
    fn wants_operands(&self) -> bool {
        true
    }

    fn visited(
        &mut self,
        name: &str,
        visit: &Visit,
        results: &Histogram,
        operands: Option<&Operands>,
    ) {
        let (visit, results) = (*visit, *results);
        self.0.push(Seen { name: name.into(), visit, results, operands: operands.copied() });
    }
}

impl Job for Look<'_> {
    type Output = ();

    fn run<D, W, G>(self, device: D) -> Result<()>
    where
        W: Element + Plain,
        G: Element + Plain,
        D: Machine<W, G> + Machine<W, f32> + Clone + Send + Sync,
    {
        let settings = self.settings();
        let Self { args, task, dataset } = self;
        let mut trainer = Trainer::<D, W, G>::new(task, dataset, settings, device)?;
        ensure!(
            args.steps < trainer.last_step(),
            "there is no step after {} of {}; raise the epochs",
            args.steps,
            trainer.last_step()
        );
        for _ in 0..args.steps {
            let _verdict = trainer.train_step(&mut NoObserver)?.verdict;
        }
        let mut keep = Keep::default();
        let verdict = trainer.train_step(&mut keep)?.verdict;

        say!("{} in {}, step {} (verdict: {verdict:?})", task.name, settings.format, args.steps);
        say!(
            "Per tensor: the scales that keep underflow within 0.1 % and overflow at zero; the scale\n\
             that each policy would choose at first sight, and how many of the nonzero elements would\n\
             underflow and overflow at it, exactly.\n"
        );
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN);
        let fixed = ["tensor", "nonzero", "largest", "window"].map(String::from);
        table.set_header(fixed.into_iter().chain(args.methods.iter().map(Method::to_string)));
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        for seen in &keep.0 {
            table.add_row(row(seen, args.run.format, &args.methods)?);
        }
        say!("{table}");
        Ok(())
    }
}

fn row(seen: &Seen, format: FormatName, methods: &[Method]) -> Result<Vec<String>> {
    let Seen { name, visit, results, operands } = seen;
    let recommended = Measured::for_format(format.0);
    let largest = visit.outcome.max_abs() / visit.incoming.factor();
    let mut row = vec![
        name.clone(),
        results.nonzero().to_string(),
        format!("{largest:.1e}"),
        window(&recommended, results),
    ];
    for method in methods {
        let config = method.config(format.0, 1)?;
        row.push(match choose(&config, visit, operands.as_ref()) {
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

/// Returns the scales that keep the tolerance of `measured`.
fn window(measured: &Measured, results: &Histogram) -> String {
    let window = measured.window(results);
    if results.nonzero() == 0 {
        "all zero".into()
    } else if window.width() == 0 {
        "empty".into()
    } else {
        format!("{}..={}", window.least, window.greatest)
    }
}

/// Returns what a policy that sees this tensor for the first time chooses.
fn choose(config: &Config, visit: &Visit, operands: Option<&Operands>) -> Option<Scale> {
    let (mut cell, incoming) = (config.cell(), visit.incoming);
    if config.policy().wants_operands() {
        decide_from_operands(config, operands?, incoming, &mut cell);
    } else if config.policy().follows_maxima() {
        // All that they ask of an outcome is its largest magnitude in f32.
        note(config, &visit.outcome, incoming, &mut cell);
    }
    Some(outgoing(config, &cell, incoming))
}
