//! Recipes: the network of each can be trained, on a small data set in the format of its own, and goes on from what was done.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use adaloss_train::{
    model::{Model, Ssd},
    recipe::{DataKind, Recipe},
};
use tempfile::TempDir;

fn program(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_adaloss-train")).args(args).output().unwrap()
}

fn said(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// Returns the recipes in a folder.
fn recipes(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let mut all: Vec<_> = files.filter(|path| path.extension().is_some()).collect();
    all.sort();
    all
}

/// Writes a data set of few images, in the format of one that is published.
fn generate(folder: &Path, kind: DataKind) -> PathBuf {
    let (name, train, test) = match kind {
        DataKind::Cifar => ("cifar-10", "10", "2"),
        DataKind::Imagenet => ("imagenet", "48", "4"),
        DataKind::Voc => ("voc", "4", "1"),
        DataKind::Camvid => ("camvid", "3", "1"),
    };
    let to = folder.join(name);
    let size = if kind == DataKind::Voc { "96" } else { "64" };
    let args =
        ["generate", name, to.to_str().unwrap(), "--train", train, "--test", test, "--size", size];
    let output = program(&args);
    assert!(output.status.success(), "{}", said(&output).1);
    to
}

/// Of two recipes with one network, which differ in their batches, the first is run.
#[test]
fn the_network_of_every_recipe_runs_on_data_of_its_format() {
    let folder = TempDir::new().unwrap();
    let (mut data, mut networks) = (HashMap::new(), Vec::new());
    for path in recipes("recipes") {
        let recipe = Recipe::read(&path).unwrap();
        if networks.contains(&recipe.model) || is_largest(&recipe) {
            continue;
        }
        networks.push(recipe.model);
        let kind = format!("{:?}", recipe.data);
        let data = data.entry(kind).or_insert_with(|| generate(folder.path(), recipe.data));
        runs_once(&path, &recipe, data, folder.path());
    }
    assert!(data.len() == 4, "recipes learn from four data sets");
}

#[test]
#[ignore = "minutes of two cores for one step: ./ci.sh largest"]
fn the_largest_network_runs_on_data_of_its_format() {
    let folder = TempDir::new().unwrap();
    let all = recipes("recipes").into_iter().map(|path| (Recipe::read(&path).unwrap(), path));
    let mut largest = all.filter(|(recipe, _)| is_largest(recipe));
    let (recipe, path) = largest.next().expect("a recipe of SSD512");
    runs_once(&path, &recipe, &generate(folder.path(), recipe.data), folder.path());
}

fn is_largest(recipe: &Recipe) -> bool {
    recipe.model == Model::Ssd(Ssd::Large512)
}

/// Does a step of a recipe, and then asks for the same again.
fn runs_once(path: &Path, recipe: &Recipe, data: &Path, folder: &Path) {
    let out = folder.join(path.file_stem().unwrap());
    let batch = if recipe.data == DataKind::Voc { "1" } else { "2" };
    let [recipe_file, data, out_folder] = [path, data, &out].map(|path| path.to_str().unwrap());
    let args = [
        ["run", recipe_file, "--data", data, "--methods", "measured"],
        ["--steps", "1", "--batch", batch, "--out", out_folder],
    ];
    let args = args.concat();
    let output = program(&args);
    let (printed, error) = said(&output);
    assert!(output.status.success(), "{recipe_file}: {error}");
    for expected in [&recipe.title[..], "published", "measured", "not the experiment's"] {
        assert!(printed.contains(expected), "{recipe_file}: no \"{expected}\" in {printed}");
    }
    let results = fs::read(out.join("results.json")).unwrap();
    let results: serde_json::Value = serde_json::from_slice(&results).unwrap();
    let run = &results["runs"]["measured-binary16-seed0"];
    // After one step of two images running moments are far from those of a deep network, which may be lost: a result as well.
    let is_lost = run["stopped"].as_str().is_some_and(|why| why.contains("the network is lost"));
    let is_judged = run["metric"].is_f64() && run["steps"] == 1;
    assert!(is_judged != is_lost, "{recipe_file}: {results}");
    // A run that is done is not done again; its weights are left and no checkpoint.
    let left = |extension: &str| out.join(format!("measured-binary16-seed0.{extension}")).exists();
    assert!(left("safetensors") != is_lost && !left("checkpoint"), "{recipe_file}");
    let again = program(&args);
    assert!(again.status.success());
    assert!(!said(&again).0.contains("step     1"), "{recipe_file} was run again");
}

#[test]
fn methods_are_compared_on_a_recipe() {
    let folder = TempDir::new().unwrap();
    let recipes = recipes("recipes/short");
    assert!(recipes.len() >= 3);
    for path in recipes {
        let recipe = Recipe::read(&path).unwrap();
        let (data, out) = (generate(folder.path(), recipe.data), folder.path().join("out"));
        let tasks = format!("{}:e5m2", path.display());
        let args = [
            ["compare", "--tasks", &tasks, "--data", data.to_str().unwrap()],
            ["--methods", "none,measured", "--seeds", "1", "--total-steps"],
            ["1", "--batch", "2", "--out", out.to_str().unwrap()],
        ];
        let output = program(&args.concat());
        let (printed, error) = said(&output);
        assert!(output.status.success(), "{tasks}: {error}");
        let stem = path.file_stem().unwrap().to_str().unwrap();
        for expected in [&format!("{stem} in e5m2")[..], "| none ", "| measured "] {
            assert!(printed.contains(expected), "{tasks}: no \"{expected}\" in {printed}");
        }
        fs::remove_dir_all(&data).unwrap();
        fs::remove_dir_all(&out).unwrap();
    }
}

#[test]
fn what_cannot_be_compared_is_told() {
    let folder = TempDir::new().unwrap();
    let recipes_folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
    let of = |name: &str| recipes_folder.join(name).to_str().unwrap().to_owned();
    let out = folder.path().join("out");
    for (tasks, expected) in [
        (of("short/cifar-resnet.toml"), "cifar-resnet learns from a folder: --data DIR"),
        (of("cifar10-resnet20.toml"), "its schedule is in epochs: give steps instead"),
        (of("short/cifar-resnet.toml@3"), "counts in steps, and not in epochs"),
        ("nowhere.toml".into(), "the recipe nowhere.toml cannot be read"),
    ] {
        let output = program(&["compare", "--tasks", &tasks, "--out", out.to_str().unwrap()]);
        let error = said(&output).1;
        assert!(!output.status.success() && error.contains(expected), "{tasks}: {error}");
    }
}

#[test]
fn what_is_missing_or_wrong_is_told() {
    let folder = TempDir::new().unwrap();
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/voc-ssd300.toml");
    let recipe = recipe.to_str().unwrap();
    let out = folder.path().join("out");
    let out = out.to_str().unwrap();
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let empty = empty.to_str().unwrap();
    let toml = folder.path().join("mine.toml");
    fs::write(&toml, "title = 3").unwrap();
    let toml = toml.to_str().unwrap();
    for (args, expected) in [
        (vec![recipe], "--data <DIR>"),
        (vec![recipe, "--data", "nowhere"], "nowhere"),
        (vec![recipe, "--data", empty], "VOCdevkit"),
        (vec!["nowhere.toml", "--data", empty], "the recipe nowhere.toml cannot be read"),
        (vec![toml, "--data", empty], "mine.toml is no recipe"),
    ] {
        let all: Vec<&str> = ["run"].into_iter().chain(args).chain(["--out", out]).collect();
        let output = program(&all);
        let error = said(&output).1;
        assert!(!output.status.success(), "{all:?}");
        assert!(error.contains(expected) && !error.contains("panicked"), "{all:?}: {error}");
    }
    let cifar = generate(folder.path(), DataKind::Cifar);
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/cifar10-resnet20.toml");
    let output = program(&[
        "run",
        recipe.to_str().unwrap(),
        "--data",
        cifar.to_str().unwrap(),
        "--methods",
        "range",
        "--out",
        out,
    ]);
    let error = said(&output).1;
    assert!(error.contains("the recipe has no run by such a method; it has f32, none"), "{error}");
}
