//! Makes and applies deltas between files, for bench/plumbbench/delta.py: the product's own code and nothing around it.
//!
//! Objects are listed one per line: `name digest path`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use plumb_delta::{Bytes, Delta, Entry, Object, Objects, Sink};
use plumb_model::Digest;

/// `create DELTA OLD_LIST NEW_LIST` or `apply DELTA OLD_LIST FOLDER`.
pub fn run(arguments: &[String]) -> Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["create", delta, old, new] => create(Path::new(delta), old, new),
        ["apply", delta, old, folder] => apply(Path::new(delta), old, Path::new(folder)),
        _ => bail!("usage: xtask delta create DELTA OLD_LIST NEW_LIST | apply DELTA OLD_LIST FOLDER"),
    }
}

fn create(delta: &Path, old: &str, new: &str) -> Result<()> {
    let mut files = Files::default();
    let old = files.list(old)?;
    let new = files.list(new)?;
    let bytes = plumb_delta::create(&old, &new, &files)?;
    fs::write(delta, &bytes).with_context(|| delta.display().to_string())?;
    println!("{}", bytes.len());
    Ok(())
}

fn apply(delta: &Path, old: &str, folder: &Path) -> Result<()> {
    let mut files = Files::default();
    files.list(old)?;
    let file = File::open(delta).with_context(|| delta.display().to_string())?;
    let opened = Delta::open(&file)?;
    let mut files_made =
        Folder { folder: folder.to_owned(), known: files.paths.keys().copied().collect(), file: None };
    // What a delta makes twice use of lies where it was made.
    for object in opened.objects() {
        files.paths.entry(object.digest).or_insert_with(|| folder.join(object.digest.hex()));
    }
    let made = opened.apply(&files, &mut files_made)?;
    println!("{} {}", made.objects, made.bytes);
    Ok(())
}

/// Files by the digest they are listed with.
#[derive(Default)]
struct Files {
    paths: BTreeMap<Digest, PathBuf>,
}

impl Files {
    fn list(&mut self, list: &str) -> Result<Vec<Object>> {
        let text = fs::read_to_string(list).with_context(|| list.to_owned())?;
        let mut objects = Vec::new();
        for line in text.lines() {
            let [name, digest, path] = line.split(' ').collect::<Vec<_>>()[..] else {
                bail!("`{line}` in {list}")
            };
            let digest: Digest = digest.parse()?;
            let size = fs::metadata(path).with_context(|| path.to_owned())?.len();
            self.paths.insert(digest, path.into());
            objects.push(Object { name: name.to_owned(), digest, size });
        }
        Ok(objects)
    }
}

impl Objects for Files {
    fn open(&self, digest: &Digest) -> io::Result<Option<Box<dyn Bytes>>> {
        self.paths.get(digest).map(|path| Ok(Box::new(File::open(path)?) as Box<dyn Bytes>)).transpose()
    }
}

/// A folder of files named by digest.
struct Folder {
    folder: PathBuf,
    known: Vec<Digest>,
    file: Option<(PathBuf, BufWriter<File>)>,
}

impl Sink for Folder {
    fn has(&self, object: &Entry) -> io::Result<bool> {
        Ok(self.known.contains(&object.digest))
    }

    fn begin(&mut self, object: &Entry) -> io::Result<()> {
        let path = self.folder.join(object.digest.hex());
        self.file = Some((path.clone(), BufWriter::new(File::create(path.with_extension("part"))?)));
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), |(_, file)| file.write_all(bytes))
    }

    fn finish(&mut self) -> io::Result<()> {
        let Some((path, mut file)) = self.file.take() else { return Ok(()) };
        file.flush()?;
        fs::rename(path.with_extension("part"), path)
    }
}
