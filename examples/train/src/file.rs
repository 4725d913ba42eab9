//! Files that are whole at any time, and what stands in their places.
//!
//! An ordinary file is replaced as a whole, with the mode that it had; a symbolic link stays, and the file behind it is
//! replaced.  A pipe or a device is written into.  A file that is read-only stays what it is.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Serialize;

/// The most symbolic links that are followed, one behind the other, as in Linux.
const MOST_LINKS: usize = 40;

/// What a path leads to.
#[derive(Debug)]
enum Target {
    /// An ordinary file, or none yet: replaced by another one, with these permissions if there are any.
    File(PathBuf, Option<Permissions>),
    /// A pipe or a device, which takes bytes.
    Stream(PathBuf),
}

impl Target {
    /// Finds what a path leads to.
    fn of(path: &Path) -> Result<Self> {
        // What is no file needs no name of its own: /dev/stdout may lead to a pipe that has none.
        if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir()) {
            return Ok(Self::Stream(path.to_path_buf()));
        }
        let mut path = path.to_path_buf();
        for _ in 0..MOST_LINKS {
            let metadata = match fs::symlink_metadata(&path) {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    ensure!(!names_a_folder(&path), "there is no such folder: make it first");
                    return Ok(Self::File(path, None));
                }
                Err(error) => return Err(error.into()),
            };
            if metadata.is_symlink() {
                // Relative to where the link is.
                path = folder_of(&path).join(fs::read_link(&path)?);
                continue;
            }
            ensure!(!metadata.is_dir(), "it is a folder");
            ensure!(!metadata.permissions().readonly(), "it is read-only");
            // A folder of one's own lets one replace the file of another user, too.
            OpenOptions::new().append(true).open(&path)?;
            return Ok(Self::File(path, Some(metadata.permissions())));
        }
        bail!("its symbolic links lead in a circle")
    }

    fn write(&self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::File(path, permissions) => {
                let mut file = readable().tempfile_in(folder_of(path))?;
                file.write_all(bytes)?;
                if let Some(permissions) = permissions {
                    file.as_file().set_permissions(permissions.clone())?;
                }
                file.as_file().sync_all()?;
                file.persist(path)?;
            }
            Self::Stream(path) => OpenOptions::new().write(true).open(path)?.write_all(bytes)?,
        }
        Ok(())
    }
}

/// Writes a file as a whole or not at all; a pipe or a device is written into.
///
/// # Errors
///
/// The file cannot be written; what was there is as it was.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || Target::of(path)?.write(bytes);
    write().with_context(|| format!("{} cannot be written", path.display()))
}

/// Returns rows for spreadsheets, with the names of their fields in front.
///
/// # Errors
///
/// A row cannot be written.
pub fn csv_of(rows: impl IntoIterator<Item: Serialize>) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    rows.into_iter().try_for_each(|row| writer.serialize(row))?;
    writer.into_inner().map_err(|error| anyhow!(error.to_string()))
}

/// Tries whether a file could be written, before minutes are spent on its contents; changes nothing.
///
/// # Errors
///
/// As [`write_whole`], as far as it can be known before.
pub fn check_file(path: &Path) -> Result<()> {
    let check = || match Target::of(path)? {
        Target::File(path, _) => check_room(folder_of(&path)),
        // To open a pipe would wait for its reader.
        Target::Stream(_) => Ok(()),
    };
    check().with_context(|| format!("{} cannot be written", path.display()))
}

/// Tries whether files could be written into a folder, which is made if it does not exist; changes nothing.
///
/// # Errors
///
/// There is something else of that name, the folder that it would be made in does not exist, or one of the files, by
/// their names, could not be written.
pub fn check_folder(folder: &Path, files: &[&str]) -> Result<()> {
    let check = || match fs::metadata(folder) {
        Ok(metadata) => {
            ensure!(metadata.is_dir(), "it is no folder");
            check_room(folder)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            ensure!(
                fs::symlink_metadata(folder).is_err(),
                "it is a symbolic link whose target does not exist"
            );
            check_room(folder_of(folder))
        }
        Err(error) => Err(error.into()),
    };
    check().with_context(|| format!("the folder {} cannot be written", folder.display()))?;
    if folder.is_dir() {
        files.iter().try_for_each(|file| check_file(&folder.join(file)))?;
    }
    Ok(())
}

/// Writes a little into a folder, and takes it away again.
fn check_room(folder: &Path) -> Result<()> {
    let mut file: File =
        tempfile::tempfile_in(folder).with_context(|| format!("in {}", folder.display()))?;
    file.write_all(&[0; 4096])?;
    file.sync_all()?;
    Ok(())
}

/// Tells whether a path can only be that of a folder, as `out/` is.
fn names_a_folder(path: &Path) -> bool {
    let bytes = path.as_os_str().as_encoded_bytes();
    let last = bytes.rsplit(|&byte| std::path::is_separator(char::from(byte))).next();
    matches!(last, Some(b"" | b"." | b".."))
}

/// Returns the folder that a file is in.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Returns what makes temporary files that others may read, as far as the user's mask lets them:
/// they are to become ordinary files.
fn readable() -> tempfile::Builder<'static, 'static> {
    #[cfg(unix)]
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    #[cfg(not(unix))]
    let builder = tempfile::Builder::new();
    builder
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_link_stays_and_what_it_leads_to_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (link, file) = (folder.path().join("link"), folder.path().join("file"));
        symlink("file", &link).unwrap();
        // To nothing, at first.
        write_whole(&link, b"one").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"one");
        write_whole(&link, b"two").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"two");
        let round = folder.path().join("round");
        symlink("round", &round).unwrap();
        let error = format!("{:#}", write_whole(&round, b"three").unwrap_err());
        assert!(error.contains("symbolic links lead in a circle"), "{error}");
    }

    #[test]
    fn modes_stay_and_read_only_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        write_whole(&file, b"new").unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        fs::set_permissions(&file, Permissions::from_mode(0o440)).unwrap();
        for refused in [check_file(&file), write_whole(&file, b"newer")] {
            let error = format!("{:#}", refused.unwrap_err());
            assert!(error.contains("file cannot be written: it is read-only"), "{error}");
        }
        assert_eq!(fs::read(&file).unwrap(), b"new");
    }

    #[test]
    fn a_pipe_is_written_into() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        check_file(&pipe).unwrap();
        let reader = {
            let pipe = pipe.clone();
            std::thread::spawn(move || fs::read(pipe).unwrap())
        };
        write_whole(&pipe, b"through").unwrap();
        assert_eq!(reader.join().unwrap(), b"through");
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
        write_whole(Path::new("/dev/null"), b"nowhere").unwrap();
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    }

    #[test]
    fn what_could_not_be_written_is_known_before() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing").join("file");
        let [slash, dot] = ["new/", "new/."].map(|name| folder.path().join(name));
        for (path, what) in [
            (missing.as_path(), "No such file"),
            (folder.path(), "it is a folder"),
            (&slash, "there is no such folder"),
            (&dot, "there is no such folder"),
        ] {
            let error = format!("{:#}", check_file(path).unwrap_err());
            assert!(error.contains("cannot be written") && error.contains(what), "{error}");
        }
        let file = folder.path().join("file");
        fs::write(&file, "a file").unwrap();
        assert!(check_folder(&file, &[]).is_err());
        assert!(check_folder(&file.join("in a file"), &[]).is_err());
        check_folder(&folder.path().join("new"), &["page"]).unwrap();
        fs::create_dir(folder.path().join("page")).unwrap();
        assert!(check_folder(folder.path(), &["page"]).is_err());
        // Nothing is left behind.
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
