//! Folders of the user's: what they hold, in an order that no file system decides.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};

/// What a folder holds: the names of its files and of its folders, each sorted.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Links to files among them.
    pub(crate) files: Vec<String>,
    /// Links to folders among them.
    pub(crate) folders: Vec<String>,
}

impl Listing {
    /// Lists a folder, without what begins with a dot.
    ///
    /// # Errors
    ///
    /// It cannot be read, or has a name that is not UTF-8.
    pub(crate) fn of(folder: &Path) -> Result<Self> {
        let shown = folder.display();
        let entries = fs::read_dir(folder).with_context(|| format!("{shown} cannot be listed"))?;
        let mut listing = Self::default();
        for entry in entries {
            let entry = entry.with_context(|| format!("{shown} cannot be listed"))?;
            let Ok(name) = entry.file_name().into_string() else {
                bail!("{} has a name that is not UTF-8", entry.path().display());
            };
            if name.starts_with('.') {
                continue;
            }
            let mut kind = entry.file_type().with_context(|| format!("in {shown}, {name}"))?;
            if kind.is_symlink() {
                kind = fs::metadata(entry.path())
                    .with_context(|| format!("{} leads nowhere", entry.path().display()))?
                    .file_type();
            }
            if kind.is_dir() { listing.folders.push(name) } else { listing.files.push(name) }
        }
        listing.files.sort_unstable();
        listing.folders.sort_unstable();
        Ok(listing)
    }
}

/// Reads a small text file.
///
/// # Errors
///
/// It cannot be read, or is not UTF-8; the error names it.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    String::from_utf8(bytes).with_context(|| format!("{} is no text in UTF-8", path.display()))
}

/// Tells whether a file is called as photographs are.
pub(crate) fn is_photo(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| {
        ["jpeg", "jpg", "png"].iter().any(|known| extension.eq_ignore_ascii_case(known))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_sorted_and_follows_links() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b", "a", ".hidden"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        fs::create_dir(folder.path().join("d")).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink("d", folder.path().join("c")).unwrap();
        let listing = Listing::of(folder.path()).unwrap();
        assert_eq!(listing.files, ["a", "b"]);
        assert_eq!(listing.folders, if cfg!(unix) { vec!["c", "d"] } else { vec!["d"] });
        let absent = Listing::of(&folder.path().join("e")).unwrap_err().to_string();
        assert!(absent.ends_with("e cannot be listed"), "{absent}");
    }

    #[test]
    fn photographs_are_told_by_their_names() {
        for name in ["a.JPEG", "b.jpg", "c.d.Png"] {
            assert!(is_photo(name), "{name}");
        }
        for name in ["a", "jpg", "a.txt", "a.JPEG.tar"] {
            assert!(!is_photo(name), "{name}");
        }
    }
}
