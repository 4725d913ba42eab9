//! Finding the vectors: which files there are, which schema each has, and its records.

use std::{
    fs,
    io::{BufReader, Read},
    path::{Path, PathBuf},
};

use flate2::bufread::MultiGzDecoder;
use serde_json::Value;

use crate::{
    approximate, cast, chainer, extremes, join,
    json::Node,
    network, period,
    report::{Case, Checked},
    resnet, scalar, torch, torch_misc,
};

/// What checks one record.
type Check = fn(Node<'_>, &mut Case) -> Checked;

/// One schema of the vectors.
pub(crate) struct Schema {
    /// The stems of the public files that have it.
    stems: &'static [&'static str],
    /// Fields that only its records have all of, for files with other names.
    fields: &'static [&'static str],
    pub(crate) check: Check,
}

const SCHEMAS: [Schema; 11] = [
    Schema {
        stems: &["loss_scale_approx", "loss_scale_approx_large"],
        fields: &["kind", "lognormal", "stages", "g"],
        check: approximate::check,
    },
    Schema {
        stems: &["loss_scale_abs_elementwise"],
        fields: &["method", "direct_no_fan_in", "g", "W"],
        check: extremes::check,
    },
    Schema { stems: &["scalar_functions"], fields: &["fn"], check: scalar::check },
    Schema {
        stems: &["rescaling"],
        fields: &["scales", "scale_kind", "target"],
        check: join::check,
    },
    Schema {
        stems: &["update_per_n"],
        fields: &["period", "variant", "steps"],
        check: period::check,
    },
    Schema { stems: &["cast_function"], fields: &["gy", "gx", "y_dtype"], check: cast::check },
    Schema {
        stems: &["e2e_mlp", "e2e_conv"],
        fields: &["model", "backward"],
        check: network::check,
    },
    Schema {
        stems: &["resnet20_layer_stats"],
        fields: &["g_shape", "W_shape", "accum_scale"],
        check: resnet::check,
    },
    Schema {
        stems: &["dyn_chainer"],
        fields: &["interval", "loss_scale_max", "steps"],
        check: chainer::check,
    },
    Schema {
        stems: &["dyn_torch_gradscaler"],
        fields: &["growth_interval", "growth_factor", "steps"],
        check: torch::check,
    },
    Schema { stems: &["dyn_torch_gradscaler_misc"], fields: &["case"], check: torch_misc::check },
];

impl Schema {
    /// Recognises a file by its name, else by the fields of its first record.
    pub(crate) fn of(file: &VectorFile, first: &Value) -> Option<&'static Self> {
        let by_name = SCHEMAS.iter().find(|schema| schema.stems.contains(&file.stem()));
        let by_fields = || {
            SCHEMAS
                .iter()
                .find(|schema| schema.fields.iter().all(|&name| first.get(name).is_some()))
        };
        by_name.or_else(by_fields)
    }
}

/// The number of a line and the record on it, or why there is none.
type Line = (usize, Result<Value, String>);

/// One file of vectors.
pub(crate) struct VectorFile {
    path: PathBuf,
    /// The path below the directory that was searched.
    pub(crate) name: String,
}

impl VectorFile {
    /// Returns the name without folders and endings.
    fn stem(&self) -> &str {
        let file = self.name.rsplit('/').next().unwrap_or(&self.name);
        file.strip_suffix(".gz").unwrap_or(file).strip_suffix(".jsonl").unwrap_or(file)
    }

    /// Reads the records, each with its line; a line that is no JSON is an error in its place.
    pub(crate) fn records(&self) -> Result<Vec<Line>, String> {
        if !self.name.ends_with(".jsonl") && !self.name.ends_with(".jsonl.gz") {
            return Err(String::from("unknown file: vectors end in .jsonl or .jsonl.gz"));
        }
        let text = self.read().map_err(|error| format!("cannot be read: {error}"))?;
        let records: Vec<_> = (1..)
            .zip(text.lines())
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(number, line)| (number, serde_json::from_str(line).map_err(|e| e.to_string())))
            .collect();
        if records.is_empty() { Err(String::from("holds no record")) } else { Ok(records) }
    }

    fn read(&self) -> std::io::Result<String> {
        let mut text = String::new();
        let file = BufReader::new(fs::File::open(&self.path)?);
        if self.name.ends_with(".gz") {
            MultiGzDecoder::new(file).read_to_string(&mut text)?;
        } else {
            { file }.read_to_string(&mut text)?;
        }
        Ok(text)
    }
}

/// The variable that names another directory of vectors.
const DIRECTORY: &str = "ADALOSS_VECTORS";

/// Tells whether the vectors are those that ship with the crate.
pub(crate) fn are_ours() -> bool {
    std::env::var_os(DIRECTORY).is_none()
}

/// Returns every file below the directory that `ADALOSS_VECTORS` names, or below the one that
/// ships with the crate, sorted by name.
///
/// Texts in Markdown and hidden files are left out.  A relative path counts from the crate or from
/// the workspace, because cargo runs tests in the crate's folder.
pub(crate) fn find() -> Result<Vec<VectorFile>, String> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = match std::env::var_os(DIRECTORY) {
        None => package.join("tests/golden/vectors"),
        Some(named) => {
            let named = PathBuf::from(named);
            let from_workspace = package.join("..").join(&named);
            if named.is_dir() || !from_workspace.is_dir() { named } else { from_workspace }
        }
    };
    let mut files = Vec::new();
    collect(&directory, "", &mut files)
        .map_err(|error| format!("no vectors in {}: {error}", directory.display()))?;
    if files.is_empty() {
        return Err(format!("no vectors in {}: it holds no file", directory.display()));
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

fn collect(directory: &Path, below: &str, files: &mut Vec<VectorFile>) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if file.starts_with('.') {
            continue;
        }
        let name = format!("{below}{file}");
        if path.is_dir() {
            collect(&path, &format!("{name}/"), files)?;
        } else if !name.ends_with(".md") {
            files.push(VectorFile { path, name });
        }
    }
    Ok(())
}
