//! The program that waits for a GPU, through the simulated driver: it runs to its end whatever a part meets.

#![cfg(target_os = "linux")]

use std::{
    env,
    error::Error,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use adaloss_driver::{PLANTED, Simulated};
use adaloss_kernels::entries::COUNT;
use serde_json::Value;

type Anyway<T> = Result<T, Box<dyn Error>>;

/// The program, for a trial whose results go to a file, with nothing else on its path than what is in a folder.
fn trial(results: &Path, tools: &Path) -> Anyway<Command> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adaloss-on-device"));
    command.arg("--trial").arg(results).env("LD_PRELOAD", Simulated::path()?).env("PATH", tools);
    Ok(command)
}

fn read(results: &Path) -> Anyway<Value> {
    Ok(serde_json::from_slice(&fs::read(results)?)?)
}

fn part<'a>(results: &'a Value, name: &str) -> &'a Value {
    let parts = results["parts"].as_array().expect("a list");
    parts.iter().find(|of| of["part"] == name).unwrap_or_else(|| panic!("no part {name}"))
}

fn rows<'a>(results: &'a Value, name: &str) -> &'a [Value] {
    part(results, name)["rows"].as_array().expect("a list")
}

fn row<'a>(results: &'a Value, name: &str, row: &str) -> &'a Value {
    rows(results, name).iter().find(|of| of["row"] == row).unwrap_or_else(|| panic!("no row {row}"))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The parts that this program runs itself, and how many rows each has in a trial.
const OWN: [(&str, usize); 9] = [
    ("load", COUNT + 3),
    ("reload", 3),
    ("conformance", 2),
    ("streams", 18),
    ("decisions", 3),
    ("lists", 3),
    ("products", 17),
    ("network", 17),
    ("layers", 2),
];

#[test]
fn the_results_are_complete() -> Anyway<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("results.json");
    let run = trial(&path, folder.path())?.output()?;
    assert!(run.status.success(), "{}", said(&run));
    let results = read(&path)?;
    assert_eq!(
        (&results["device"], &results["capability"]),
        (&"simulated grid".into(), &"9.0".into())
    );
    assert!(results["commit"].is_string() && results["changed"].is_boolean());
    assert!(results["date"].as_str().is_some_and(|date| date.len() == 20 && date.ends_with('Z')));
    for (name, count) in OWN {
        assert_eq!(part(&results, name)["status"], "done", "{name}");
        assert_eq!(rows(&results, name).len(), count, "{name}");
    }
    for (name, why) in [
        ("memcheck", "not run: compute-sanitizer is not installed"),
        ("profile", "not run: ncu is not installed"),
        ("peers", "not run: PyTorch is missing, or sees no GPU"),
    ] {
        assert_eq!(part(&results, name)["status"], why);
    }
    let is_time = |value: &Value| value.as_f64().is_some_and(|time| time > 0.0);
    assert!(is_time(&row(&results, "load", "kernels")["load_seconds"]));
    // The simulated driver takes no machine code.
    assert_eq!(row(&results, "load", "kernels")["compiled_by_driver"], true);
    assert!(is_time(&row(&results, "load", "text")["compile_seconds"]));
    let resident = &row(&results, "load", "kernels")["blocks_per_multiprocessor"];
    assert_eq!(resident["adaloss_apply_f16"], 6);
    for name in ["streams", "lists", "products", "network"] {
        let timed = rows(&results, name).iter().filter(|of| of["blocks"].is_null());
        for of in timed {
            let [least, ms, greatest] =
                ["ms_least", "ms", "ms_greatest"].map(|key| of[key].as_f64().unwrap_or(-1.0));
            assert!(0.0 < least && least <= ms && ms <= greatest, "{of}");
        }
    }
    let blocks = row(&results, "streams", "blocks of apply binary16")["blocks"]
        .as_array()
        .ok_or("a list")?;
    assert!(blocks.len() == 3 && blocks.iter().all(|of| is_time(&of["ms"])));
    for of in rows(&results, "decisions")[..2].iter() {
        assert!(is_time(&of["us_per_layer_called"]) && is_time(&of["us_per_layer_captured"]));
    }
    // The same values at each step: the scale that was certified is kept.
    let decided = row(&results, "decisions", "what was decided");
    assert_eq!(
        (&decided["scale_log2"], &decided["promised"]),
        (&decided["certified_scale_log2"], &true.into())
    );
    // Better than the bound of conformance, which is 2^-22 for each term.
    let products = rows(&results, "products");
    assert!(
        products.iter().all(|of| of["relative_error"].as_f64().is_some_and(|error| error < 1.0e-6))
    );
    assert_eq!(row(&results, "lists", "unscale")["tensors"], 161);
    // Every step is taken, timed or not.
    let update = row(&results, "lists", "unscale and update");
    let launches = update["launches"].as_u64().ok_or("a number")?;
    assert_eq!(update["steps"], 1 + 2 + 12 * launches);
    Ok(())
}

/// The shipped text of either architecture, executed in the place of what it was made of, does what a trial asks for.
#[test]
#[ignore = "half a minute: ./ci.sh text runs it"]
fn the_shipped_text_is_tried() -> Anyway<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("results.json");
    for (device, capability) in [("3", "9.0"), ("4", "8.0")] {
        let mut command = trial(&path, folder.path())?;
        let run =
            command.args(["--row-seconds", "60"]).env("CUDA_VISIBLE_DEVICES", device).output()?;
        assert!(run.status.success(), "{}", said(&run));
        let results = read(&path)?;
        let found = (&results["device"], &results["capability"]);
        assert_eq!(found, (&"interpreted PTX".into(), &capability.into()));
        for (name, count) in OWN {
            assert_eq!(part(&results, name)["status"], "done", "{name}");
            assert_eq!(rows(&results, name).len(), count, "{name}");
            for row in rows(&results, name) {
                let wrong = ["failed", "error", "difference"].map(|key| &row[key]);
                assert!(wrong.iter().all(|of| of.is_null()), "{name}: {row}");
            }
        }
    }
    Ok(())
}

/// One kernel does not end, one ends its process, and one computes something else: the rest is in the results.
#[test]
fn no_part_hides_another() -> Anyway<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("results.json");
    let planted = "hang=adaloss_unscale_f16,crash=adaloss_close,differ=adaloss_apply_e4m3";
    let run =
        trial(&path, folder.path())?.args(["--row-seconds", "3"]).env(PLANTED, planted).output()?;
    assert_eq!(run.status.code(), Some(1), "{}", said(&run));
    let results = read(&path)?;
    for (name, count) in OWN {
        assert_eq!(part(&results, name)["status"], "done", "{name}");
        assert_eq!(rows(&results, name).len(), count, "{name}");
    }
    assert_eq!(row(&results, "load", "adaloss_unscale_f16")["failed"], "killed after 3 s");
    assert_eq!(row(&results, "load", "adaloss_close")["failed"], "signal: 6 (SIGABRT)");
    let difference = &row(&results, "load", "adaloss_apply_e4m3")["difference"];
    assert!(difference.as_str().is_some_and(|what| what.starts_with("elements: ")), "{difference}");
    let is_wrong =
        |of: &&Value| ["error", "failed", "difference"].iter().any(|key| !of[key].is_null());
    let wrong = |name| rows(&results, name).iter().filter(is_wrong).count();
    // Visits are closed where layers decide, lists of gradients are unscaled; nothing else does what was planted.
    assert_eq!(
        OWN.map(|(name, _)| (name, wrong(name))),
        [
            ("load", 3),
            ("reload", 0),
            ("conformance", 1),
            ("streams", 0),
            ("decisions", 1),
            ("lists", 2),
            ("products", 0),
            ("network", 0),
            ("layers", 2),
        ]
    );
    let text = said(&run);
    assert!(text.contains("load, adaloss_unscale_f16: failed: killed after 3 s"), "{text}");
    Ok(())
}

/// Stand-ins for NVIDIA's tools and for Python, which print what those do.
fn tools(folder: &Path, sanitizer: &str) -> Anyway<()> {
    let scripts = [
        ("compute-sanitizer", sanitizer),
        (
            "ncu",
            "while [ $# -gt 0 ]; do case $1 in --log-file) log=$2 ;; */adaloss-on-device) break ;; esac; shift; done\n\
             [ -z \"$log\" ] || printf '==PROF==\\n\"ID\",\"Kernel Name\",\"time\"\\n\"\",\"\",\"ns\"\\n\"0\",\"k\",\"1,250\"\\n' >\"$log\"\n\
             exec \"$@\"",
        ),
        (
            "python3",
            "[ \"$1\" = -c ] && exit\n\
             printf '{\"begin\":\"copy\"}\\n{\"row\":\"copy\",\"ms\":3.0}\\n' >>\"$3\"",
        ),
    ];
    for (name, text) in scripts {
        let path = folder.join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Runs what comes behind its own arguments, and says that it found nothing.
const CLEAN: &str = "while [ $# -gt 0 ]; do case $1 in --log-file) log=$2 ;; */adaloss-on-device) break ;; esac; shift; done\n\
    [ -z \"$log\" ] || echo '========= ERROR SUMMARY: 0 errors' >\"$log\"\n\
    exec \"$@\"";

#[test]
fn tools_are_used_where_they_work() -> Anyway<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("results.json");
    tools(folder.path(), CLEAN)?;
    let only = "load,memcheck,streams,peers,profile";
    let run = trial(&path, folder.path())?.args(["--only", only]).output()?;
    assert!(run.status.success(), "{}", said(&run));
    let results = read(&path)?;
    assert_eq!(part(&results, "probe of memcheck")["status"], "done");
    // What it ran, and what it found.
    assert_eq!(rows(&results, "memcheck").len(), COUNT + 4);
    assert_eq!(row(&results, "memcheck", "summary")["found"][0], "0 errors");
    let kernels = &row(&results, "profile", "counters")["kernels"];
    assert_eq!(
        (&kernels[0]["Kernel Name"], &kernels[0]["time [ns]"]),
        (&"k".into(), &1250.0.into())
    );
    assert_eq!(rows(&results, "profile").len(), 7);
    let ratio = &results["ratios"][0];
    let ours = row(&results, "streams", "copy")["ms"].as_f64().ok_or("a time")?;
    assert_eq!(ratio["torch_over_ours"].as_f64(), Some(3.0 / ours));
    Ok(())
}

#[test]
fn what_a_sanitizer_finds_is_a_fault() -> Anyway<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("results.json");
    let finds = CLEAN.replace("0 errors", "2 errors").replace("exec \"$@\"", "\"$@\"; exit 9");
    // The probe passes, since it has no log.
    tools(folder.path(), &finds.replace("exit 9", "[ -z \"$log\" ] || exit 9"))?;
    let run = trial(&path, folder.path())?.args(["--only", "memcheck"]).output()?;
    assert_eq!(run.status.code(), Some(1), "{}", said(&run));
    let results = read(&path)?;
    assert_eq!(row(&results, "memcheck", "the end of the process")["failed"], "exit status: 9");
    assert!(row(&results, "memcheck", "summary")["difference"].is_string());
    // A tool that does not work here is no fault.
    tools(folder.path(), "echo 'Device not supported'; exit 1")?;
    let run = trial(&path, folder.path())?.args(["--only", "memcheck"]).output()?;
    let results = read(&path)?;
    assert_eq!(
        part(&results, "memcheck")["status"],
        "not run: compute-sanitizer does not work with this GPU"
    );
    let probe = part(&results, "probe of memcheck")["status"].as_str().unwrap_or_default();
    assert!(probe.contains("Device not supported"), "{probe}");
    assert!(run.status.success(), "{}", said(&run));
    Ok(())
}

/// Counts the processes that have inherited a mark.
fn marked(mark: &str) -> Anyway<usize> {
    let processes = fs::read_dir("/proc")?
        .flatten()
        .filter_map(|entry| fs::read(entry.path().join("environ")).ok());
    let has_mark = |environ: &Vec<u8>| environ.windows(mark.len()).any(|of| of == mark.as_bytes());
    Ok(processes.filter(has_mark).count())
}

/// What was found stays, no process is left behind, and the parts that were not run say so.
#[test]
fn an_interrupted_run_keeps_what_it_has() -> Anyway<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("results.json");
    let mut command = trial(&path, folder.path())?;
    let mark = path.display().to_string();
    command.env(PLANTED, "hang=adaloss_statistics_e4m3").env("ADALOSS_TEST_MARK", &mark);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut run = command.spawn()?;
    let until = Instant::now() + Duration::from_secs(60);
    let is_there = |results: &Value| {
        !rows(results, "load").iter().any(|of| of["row"] == "adaloss_narrow_e4m3")
    };
    while read(&path).map_or(true, |results| results["parts"][0].is_null() || is_there(&results)) {
        assert!(Instant::now() < until, "it does not come to the kernel that hangs");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(marked(&mark)?, 2, "the program and the part that hangs");
    Command::new("kill").args(["-TERM", &run.id().to_string()]).status()?;
    assert_eq!(run.wait()?.code(), Some(1));
    assert_eq!(marked(&mark)?, 0);
    let results = read(&path)?;
    assert_eq!(part(&results, "load")["status"], "interrupted");
    assert_eq!(row(&results, "load", "adaloss_statistics_e4m3")["failed"], "interrupted");
    assert_eq!(part(&results, "layers")["status"], "not run: interrupted");
    Ok(())
}

#[test]
fn bad_arguments_are_refused_before_anything_runs() -> Anyway<()> {
    let folder = tempfile::tempdir()?;
    let missing = folder.path().join("missing").join("results.json");
    for (path, what) in
        [(missing.as_path(), "No such file or directory"), (folder.path(), "it is a folder")]
    {
        let run = trial(path, folder.path())?.output()?;
        let text = said(&run);
        assert!(
            !run.status.success() && text.contains("cannot write") && text.contains(what),
            "{text}"
        );
        assert!(!text.contains("load"), "{text}");
    }
    let path = folder.path().join("results.json");
    for arguments in
        [["--minutes", "0"], ["--minutes", "NaN"], ["--elements", "0"], ["--only", "nothing"]]
    {
        let run = trial(&path, folder.path())?.args(arguments).output()?;
        assert_eq!(run.status.code(), Some(2), "{arguments:?}: {}", said(&run));
    }
    let run = trial(&path, folder.path())?.args(["--only", "probe"]).output()?;
    assert!(said(&run).contains("probe is no part of its own") && !run.status.success());
    let run = trial(&path, folder.path())?.args(["--minutes", "0.0001"]).output()?;
    assert_eq!(run.status.code(), Some(1), "{}", said(&run));
    let results = read(&path)?;
    assert!(
        part(&results, "load")["status"].as_str().is_some_and(|of| of.starts_with("cut off after"))
    );
    assert_eq!(part(&results, "layers")["status"], "not run: no time is left");
    assert_eq!(part(&results, "memcheck")["status"], "not run: no time is left");
    assert!(said(&run).contains("layers: not run: no time is left"), "{}", said(&run));
    Ok(())
}

/// Without a driver, every part says so, and the program ends.
#[test]
fn a_missing_driver_is_said() -> Anyway<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("results.json");
    let run = trial(&path, folder.path())?
        .env_remove("LD_PRELOAD")
        .args(["--only", "load,streams"])
        .output()?;
    let results = read(&path)?;
    if results["device"].is_null() {
        assert_eq!(run.status.code(), Some(1), "{}", said(&run));
        let error = row(&results, "load", "device")["error"].as_str().unwrap_or_default();
        assert!(error.starts_with("the CUDA driver is not installed"), "{error}");
        let status = part(&results, "streams")["status"].as_str().unwrap_or_default();
        assert!(status.contains("the CUDA driver is not installed"), "{status}");
    }
    Ok(())
}

/// A tool that does not answer is given up like anything else.
#[test]
fn a_tool_that_hangs_is_given_up() -> Anyway<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("results.json");
    tools(folder.path(), "exec /bin/sleep 600")?;
    let began = Instant::now();
    let arguments = ["--only", "memcheck", "--minutes", "0.03"];
    let run = trial(&path, folder.path())?.args(arguments).output()?;
    assert!(began.elapsed() < Duration::from_secs(30));
    let results = read(&path)?;
    assert_eq!(part(&results, "memcheck")["status"], "not run: no time is left");
    assert!(!run.status.success());
    Ok(())
}

/// Nobody has to read what is said.
#[test]
fn a_closed_pipe_costs_no_result() -> Anyway<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("results.json");
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let mut command = trial(&path, folder.path())?;
    let run =
        command.args(["--only", "reload"]).stdout(writer.try_clone()?).stderr(writer).status()?;
    assert!(run.success());
    assert_eq!(part(&read(&path)?, "reload")["status"], "done");
    Ok(())
}
