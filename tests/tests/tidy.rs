//! What must hold of the source itself: who may use what, documentation, sizes, links.
//!
//! A size is a ratchet: the counts below may only fall.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Source files longer than 500 lines that there may be at most.
const LONG_FILES_MAX: usize = 12;
/// Functions longer than 70 lines that there may be at most.
const LONG_FUNCTIONS_MAX: usize = 12;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace").to_owned()
}

/// All files below `folder` with this ending, the build's and git's own left out.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("read a folder").flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<(String, String)> {
    let root = root();
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&root).expect("below the root").display().to_string();
        (name, fs::read_to_string(&path).expect("read a source file"))
    };
    files(&root, ".rs").into_iter().map(read).collect()
}

/// The names under `[dependencies]` of a crate's manifest.
fn dependencies(folder: &str) -> BTreeSet<String> {
    let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("a manifest");
    let mut inside = false;
    let mut names = BTreeSet::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line == "[dependencies]";
        } else if inside && let Some((name, _)) = line.split_once(['.', '=', ' ']) {
            names.insert(name.trim().to_owned());
        }
    }
    names
}

#[test]
fn the_pure_crates_use_nothing_that_touches_the_world() {
    let impure =
        ["tokio", "tonic", "openraft", "rocksdb", "hyper", "kube", "rand", "rustix", "ring"];
    for folder in ["store/machine", "controlplane/meta"] {
        let used = dependencies(folder);
        for name in impure {
            assert!(!used.contains(name), "{folder} is pure but depends on {name}");
        }
        for (name, text) in
            sources().iter().filter(|(name, _)| name.starts_with(&format!("{folder}/src")))
        {
            for banned in [
                "std::fs",
                "TcpStream",
                "UdpSocket",
                "std::time::Instant",
                "SystemTime",
                "Timestamp::now",
            ] {
                assert!(!text.contains(banned), "{name} is in a pure crate but uses {banned}");
            }
        }
    }
}

#[test]
fn crates_use_only_what_they_may() {
    let may_not = [
        ("store/base", vec!["kijabi-"]),
        ("proto", vec!["kijabi-"]),
        ("store/machine", vec!["kijabi-disk", "kijabi-server", "kijabi-meta", "kijabi-apiserver"]),
        ("store/disk", vec!["kijabi-server", "kijabi-meta", "kijabi-apiserver", "openraft"]),
        ("store/server", vec!["kijabi-meta", "kijabi-apiserver", "kijabi-agent", "kube"]),
        ("controlplane/meta", vec!["kijabi-"]),
        (
            "controlplane/apiserver",
            vec!["kijabi-server", "kijabi-disk", "kijabi-machine", "kube", "rocksdb"],
        ),
        (
            "controlplane/controllers",
            vec!["kijabi-apiserver", "kijabi-server", "kijabi-proto", "kijabi-meta"],
        ),
        (
            "controlplane/scheduler",
            vec!["kijabi-apiserver", "kijabi-server", "kijabi-proto", "kijabi-meta"],
        ),
        ("agent", vec!["kijabi-apiserver", "kijabi-server", "kijabi-proto", "kijabi-meta"]),
    ];
    for (folder, banned) in may_not {
        for name in dependencies(folder) {
            let is_banned = banned
                .iter()
                .any(|ban| name == *ban || (ban.ends_with('-') && name.starts_with(ban)));
            assert!(!is_banned, "{folder} may not depend on {name}");
        }
    }
}

#[test]
fn every_source_file_says_what_it_owns() {
    for (name, text) in sources() {
        let first = text.lines().next().unwrap_or_default();
        assert!(first.starts_with("//!"), "{name} does not open with a //! line");
    }
}

#[test]
fn nothing_unfinished_is_left() {
    let marks = ["FIX".to_owned() + "ME", "TO".to_owned() + "DO", "XX".to_owned() + "X:"];
    for (name, text) in sources() {
        for mark in &marks {
            assert!(!text.contains(mark.as_str()), "{name} has a {mark}");
        }
    }
}

#[test]
fn every_deviation_is_in_the_compatibility_page() {
    let page = fs::read_to_string(root().join("COMPATIBILITY.md")).expect("COMPATIBILITY.md");
    for (name, text) in sources() {
        if name.starts_with("tests/") {
            continue;
        }
        if text.contains("Differs from etcd:") || text.contains("Differs from Kubernetes:") {
            assert!(
                page.contains(&name),
                "{name} has a deviation that COMPATIBILITY.md does not name"
            );
        }
    }
}

#[test]
fn every_invariant_is_used() {
    let catalogue =
        fs::read_to_string(root().join("store/base/src/invariant.rs")).expect("the catalogue");
    let ids: Vec<_> = catalogue
        .lines()
        .filter_map(|line| line.trim().strip_prefix("/// ")?.split_once(':'))
        .map(|(id, _)| id.to_owned())
        .filter(|id| {
            id.contains('-')
                && id.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-')
        })
        .collect();
    assert!(ids.len() >= 9, "the catalogue could not be read: {ids:?}");
    let sources = sources();
    for id in ids {
        let users = sources
            .iter()
            .filter(|(name, text)| !name.starts_with("store/base") && text.contains(&id))
            .count();
        assert!(users > 0, "{id} is in the catalogue, but no code quotes it");
    }
}

#[test]
fn links_in_the_pages_lead_somewhere() {
    let root = root();
    for page in files(&root, ".md") {
        let text = fs::read_to_string(&page).expect("read a page");
        for part in text.split("](").skip(1) {
            let target = part.split([')', '#', ' ']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let path = page.parent().expect("a page lies in a folder").join(target);
            assert!(path.exists(), "{} links to {target}, which is not there", page.display());
        }
    }
}

#[test]
fn files_and_functions_stay_small() {
    let mut long_files = Vec::new();
    let mut long_functions = Vec::new();
    for (name, text) in sources() {
        let lines: Vec<_> = text.lines().collect();
        if lines.len() > 500 {
            long_files.push((lines.len(), name.clone()));
        }
        let mut start: Option<(usize, usize)> = None;
        for (number, line) in lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let trimmed = line.trim_start();
            let opens = [
                "fn ",
                "pub fn ",
                "pub(crate) fn ",
                "async fn ",
                "pub async fn ",
                "pub(crate) async fn ",
            ]
            .iter()
            .any(|head| trimmed.starts_with(head));
            if opens && start.is_none() {
                start = Some((number, indent));
            } else if let Some((from, at)) = start
                && trimmed.starts_with('}')
                && indent == at
            {
                if number - from > 70 {
                    long_functions.push((number - from, format!("{name}:{}", from + 1)));
                }
                start = None;
            }
        }
    }
    for list in [&mut long_files, &mut long_functions] {
        list.sort_unstable_by(|a, b| b.cmp(a));
        println!("the longest: {:#?}", &list[..list.len().min(10)]);
    }
    assert!(
        long_files.len() <= LONG_FILES_MAX,
        "{} files over 500 lines: {long_files:#?}",
        long_files.len()
    );
    assert!(
        long_functions.len() <= LONG_FUNCTIONS_MAX,
        "{} functions over 70 lines: {long_functions:#?}",
        long_functions.len()
    );
}
