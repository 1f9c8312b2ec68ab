//! Files that the program writes: never torn, never in place of something that was wanted.
//!
//! A file is written under a temporary name in the same directory and gets its own when it is complete ([`Pending::commit`]); until then, and after any
//! failure, there is no file. What exists is replaced only if the user said so, and what the program is reading never. A file is for its owner alone,
//! because results hold what captures hold: command lines, paths, addresses. One that is replaced keeps its mode. Devices and pipes are written to as
//! they are.

use crate::ending::Temporary;
use crate::error::{Error, Result};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Directories deeper than this are no captures.
const DEEPEST: usize = 4;

/// What the program reads: no output may replace it, under whatever name.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// Devices and inodes of the files and directories, and of all that is in the latter.
    identities: Vec<(u64, u64)>,
    /// The names that files have by now, and will have: a recording that goes on gets its final one.
    names: Vec<PathBuf>,
}

impl Inputs {
    /// These files and directories.
    pub fn of<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Inputs {
        let mut inputs = Inputs::default();
        for path in paths {
            inputs.add(path, DEEPEST);
            let Ok(real) = path.canonicalize() else { continue };
            if let Some(name) = real.to_str().and_then(|name| name.strip_suffix(ebrec_format::capture::PARTIAL_SUFFIX)) {
                inputs.names.push(PathBuf::from(name));
            }
            inputs.names.push(real);
        }
        inputs
    }

    fn add(&mut self, path: &Path, depth: usize) {
        let Ok(metadata) = std::fs::metadata(path) else { return };
        self.identities.extend(identity(&metadata));
        if metadata.is_dir() && depth > 0 {
            for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
                self.add(&entry.path(), depth - 1);
            }
        }
    }

    fn holds(&self, path: &Path) -> bool {
        let is_read =
            |path: &Path| std::fs::metadata(path).is_ok_and(|metadata| identity(&metadata).is_some_and(|id| self.identities.contains(&id)));
        let Some(parent) = parent(path).canonicalize().ok() else { return is_read(path) };
        let named = path.file_name().is_some_and(|name| self.names.contains(&parent.join(name)));
        named || is_read(path) || parent.ancestors().any(is_read)
    }
}

/// What a file is, whatever its name.
#[cfg(unix)]
fn identity(metadata: &Metadata) -> Option<(u64, u64)> {
    Some((std::os::unix::fs::MetadataExt::dev(metadata), std::os::unix::fs::MetadataExt::ino(metadata)))
}

/// Elsewhere names must do.
#[cfg(not(unix))]
fn identity(_: &Metadata) -> Option<(u64, u64)> {
    None
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Where a file shall go.
enum Target {
    /// Something that is written to as it is.
    Device,
    /// A new file.
    New,
    /// The file that is replaced.
    Existing(PathBuf, Metadata),
}

/// What is at `path`, or why nothing may be written there.
fn target(path: &Path, force: bool, inputs: &Inputs) -> Result<Target> {
    let failed = |why: &str, hint: &str| Err(Error::new(path.display(), why).hint(hint));
    if inputs.holds(path) {
        return failed("the file is being read, and writing to it would destroy it", "give another file with -o");
    }
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => failed("is a directory", "give the name of a file with -o"),
        Ok(found) if !found.is_file() => Ok(Target::Device),
        Ok(_) if !force => failed("the file exists", "--force replaces it"),
        Ok(found) => {
            let real = path.canonicalize().map_err(|error| unwritable(path, &error))?;
            if inputs.holds(&real) {
                return failed("the file is being read, and writing to it would destroy it", "give another file with -o");
            }
            Ok(Target::Existing(real, found))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if path.symlink_metadata().is_ok() {
                return failed("is a link to a file that doesn't exist", "give another file with -o");
            }
            match parent(path).metadata() {
                Ok(parent) if parent.is_dir() && path.file_name().is_some() => Ok(Target::New),
                Ok(_) => Err(unwritable(path, &io::ErrorKind::NotADirectory.into())),
                Err(error) => Err(unwritable(path, &error)),
            }
        }
        Err(error) => Err(unwritable(path, &error)),
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Error {
    Error::new(path.display(), error).hint("give a file that can be written with -o")
}

/// Says early what [`Pending::new`] would refuse.
pub fn check(path: &Path, force: bool, inputs: &Inputs) -> Result<()> {
    target(path, force, inputs).map(drop)
}

/// A file that isn't complete yet.
#[derive(Debug)]
pub struct Pending {
    /// As the user named it.
    name: PathBuf,
    file: File,
    place: Option<Place>,
}

/// Where it becomes a file of its own name; `None` for devices.
#[derive(Debug)]
struct Place {
    temporary: Temporary,
    path: PathBuf,
    replace: bool,
}

impl Pending {
    /// Begins the file `path`. An existing one is replaced in the end, if `force`; none of `inputs` is.
    pub fn new(path: &Path, force: bool, inputs: &Inputs) -> Result<Pending> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let (goal, mode, replace) = match target(path, force, inputs)? {
            Target::Device => {
                let file = OpenOptions::new().write(true).open(path).map_err(|error| unwritable(path, &error))?;
                return Ok(Pending { name: path.to_owned(), file, place: None });
            }
            Target::New => (path.to_owned(), None, false),
            Target::Existing(real, metadata) => (real, Some(metadata.permissions()), true),
        };
        // Not with the name in it: that may have the greatest length there is.
        let name = format!(".ebrec-{}-{}.tmp", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let temporary = Temporary::new(parent(&goal).join(name));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(temporary.path()).map_err(|error| unwritable(path, &error))?;
        if let Some(mode) = mode {
            file.set_permissions(mode).map_err(|error| unwritable(path, &error))?;
        }
        Ok(Pending { name: path.to_owned(), file, place: Some(Place { temporary, path: goal, replace }) })
    }

    /// Gives the complete file its name. It is on the disk then.
    pub fn commit(self) -> Result<()> {
        let Some(Place { temporary, path, replace }) = self.place else { return Ok(()) };
        let done = self
            .file
            .sync_all()
            .and_then(|()| if replace { std::fs::rename(temporary.path(), &path) } else { appear(temporary.path(), &path) });
        match done {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Error::new(self.name.display(), "the file was made by somebody else meanwhile").hint("--force replaces it"));
            }
            Err(error) => return Err(unwritable(&self.name, &error)),
        }
        // Where a directory can't be synced, the system looks after it.
        #[cfg(unix)]
        let _ = File::open(parent(&path)).and_then(|directory| directory.sync_all());
        Ok(())
    }
}

impl Write for Pending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Gives `from` the name `to`, which nothing else may have.
fn appear(from: &Path, to: &Path) -> io::Result<()> {
    // A link is refused if the name is taken, which a rename isn't. The temporary name goes afterwards.
    match std::fs::hard_link(from, to) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            // A file system without hard links: the name is taken first, and then replaced.
            OpenOptions::new().write(true).create_new(true).open(to)?;
            std::fs::rename(from, to).inspect_err(|_| drop(std::fs::remove_file(to)))
        }
        linked => linked,
    }
}
