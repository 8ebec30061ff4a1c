//! The floor under unpacking: what one thread of the product's own decompressor needs for some packages, and nothing
//! else. bench/plumbbench/hardware.py measures it as a process.

use std::fs;
use std::io;

use anyhow::{Context, Result, bail};
use liblzma::read::XzDecoder;

/// Bytes of an ar header (ar(5)) and of the magic before the first.
const HEADER: usize = 60;
const MAGIC: usize = 8;

/// Decompresses `data.tar.xz` of each `.deb` to nowhere; prints the bytes before and after.
pub fn run(paths: &[String]) -> Result<()> {
    let (mut packed, mut unpacked) = (0, 0);
    for path in paths {
        let deb = fs::read(path).with_context(|| format!("cannot read {path}"))?;
        let data = data(&deb).with_context(|| format!("{path} has no `data.tar.xz`"))?;
        packed += data.len();
        unpacked += io::copy(&mut XzDecoder::new(data), &mut io::sink())
            .with_context(|| format!("cannot decompress {path}"))?;
    }
    println!("{packed} {unpacked}");
    Ok(())
}

fn data(deb: &[u8]) -> Result<&[u8]> {
    let mut rest = deb.get(MAGIC..).unwrap_or_default();
    while let Some((header, after)) = rest.split_at_checked(HEADER) {
        let size: usize = str::from_utf8(&header[48..58])?.trim().parse()?;
        let (member, next) = after.split_at_checked(size).context("it is cut short")?;
        if header.starts_with(b"data.tar.xz ") || header.starts_with(b"data.tar.xz/") {
            return Ok(member);
        }
        rest = next.get(size % 2..).unwrap_or_default();
    }
    bail!("no such member")
}
