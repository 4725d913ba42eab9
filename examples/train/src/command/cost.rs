//! What networks cost, before anything is trained.

use adaloss_core::format::{Encoding, f16};
use adaloss_train::{
    cost::{Cost, cost},
    data::Input,
    method::{FormatName, Method},
    model::Model,
    optimizer::Optimizer,
    say,
    trainer::Settings,
};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};

/// What is looked at.
#[derive(Args, Debug)]
pub(crate) struct CostArgs {
    /// The networks, each with options behind colons: see --network of train.
    #[arg(
        value_name = "NETWORK",
        default_values = [
            "resnet20", "resnet56", "resnet110", "preresnet164:bottleneck:projected", "vgg16:normalised:small",
            "resnet18", "resnet50", "vgg16", "segnet:widths=64-64-64-64:kernel=7", "ssd300", "ssd512",
        ]
    )]
    networks: Vec<String>,
    /// Rows and columns of an image, by default those that the network was published for.
    #[arg(long, value_name = "PIXELS", value_parser = parse_extent)]
    size: Option<[usize; 2]>,
    /// Classes, by default those that it was published for.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    classes: Option<u32>,
    /// Samples of a step.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1 << 16))]
    batch: u32,
    /// The gradient format; 8-bit ones go forward in binary16.
    #[arg(long, default_value = "binary16")]
    format: FormatName,
    /// sgd or adamw.
    #[arg(long, default_value = "sgd")]
    optimizer: Optimizer,
}

/// Reads "224" or "360x480".
fn parse_extent(text: &str) -> Result<[usize; 2]> {
    let (height, width) = text.split_once('x').unwrap_or((text, text));
    let side = |text: &str| text.parse().ok().filter(|side| (1..=1 << 14).contains(side));
    match (side(height), side(width)) {
        (Some(height), Some(width)) => Ok([height, width]),
        _ => bail!("\"{text}\" is no size like 224 or 360x480, of 1 to 16384 pixels"),
    }
}

/// Prints parameters, multiply-adds and memory of networks.
///
/// # Errors
///
/// A network is unknown, or none for such images.
pub(crate) fn run(args: &CostArgs) -> Result<()> {
    let settings = Settings { format: args.format, method: Method::MEASURED, seed: 0, period: 1 };
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([
        "network",
        "image",
        "classes",
        "parameters",
        "forward",
        "step",
        "scales",
        "model MiB",
        "step MiB",
    ]);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for name in &args.networks {
        let model: Model = name.parse()?;
        let published = model.published();
        let [height, width] = args.size.unwrap_or(published.extent);
        let classes = args.classes.map_or(published.classes, |classes| classes as usize);
        let input = Input::Image { height, width, channels: published.channels };
        let batch = args.batch as usize;
        let cost = held(settings.held(), &model, (input, classes), &args.optimizer, batch)
            .with_context(|| name.clone())?;
        let Cost { parameters, forward, step, cells, model_bytes, step_bytes } = cost;
        let giga = |count: u64| format!("{:.3}", count as f64 / 1e9);
        let mebi = |bytes: usize| (bytes >> 20).to_string();
        table.add_row([
            name.clone(),
            format!("{height}x{width}"),
            classes.to_string(),
            parameters.to_string(),
            giga(forward),
            giga(step),
            cells.to_string(),
            mebi(model_bytes),
            mebi(step_bytes),
        ]);
    }
    say!(
        "Multiply-adds in billions, of one sample forward and of a step of {} samples; gradient tensors that have a scale of their own; memory\n\
         of the model with its optimizer, and the most in a step, gradients in {}.\n",
        args.batch,
        args.format
    );
    say!("{table}");
    Ok(())
}

/// Finds the cost with the element types that a run holds its tensors in, of which memory is all that depends: all of 8 bits are one.
fn held(
    held: [Encoding; 2],
    model: &Model,
    shape: (Input, usize),
    optimizer: &Optimizer,
    batch: usize,
) -> Result<Cost> {
    use adaloss_core::format::E5M2;
    ensure!(
        !matches!(model, Model::Transformer(_)),
        "it takes texts, and this command shows networks that take images"
    );
    match held.map(Encoding::bits) {
        [32, _] => cost::<f32, f32>(model, shape, optimizer, batch),
        [_, 8] => cost::<f16, E5M2>(model, shape, optimizer, batch),
        _ => cost::<f16, f16>(model, shape, optimizer, batch),
    }
}
