//! The outer archive of a `.deb`: ar(5) in the common form that deb(5) allows.
//!
//! ```text
//!  "!<arch>\n"                                   8 bytes
//!  per member, padded to even length:
//!    name[16] mtime[12] uid[6] gid[6] mode[8] size[10] "`\n"     60 bytes, ASCII, space padded
//!    data[size]
//!  members of a .deb, in order: debian-binary, control.tar*, [_*], data.tar*
//! ```

use std::io::{self, Read};

use super::DebError;

const MAGIC: &[u8; 8] = b"!<arch>\n";
const HEADER_BYTES: usize = 60;

/// Reads member after member; never seeks.
pub(super) struct Reader<R> {
    inner: R,
    padding: bool,
}

/// Name and length of the member whose data comes next.
pub(super) struct Member {
    pub(super) name: String,
    pub(super) size: u64,
}

impl<R: Read> Reader<R> {
    pub(super) fn open(mut inner: R) -> Result<Self, DebError> {
        let mut magic = [0; 8];
        inner
            .read_exact(&mut magic)
            .map_err(|source| DebError::Read { member: "ar header".into(), source })?;
        if &magic != MAGIC {
            return Err(DebError::NotAr);
        }
        Ok(Reader { inner, padding: false })
    }

    /// The next member, or `None` at the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<Member>, DebError> {
        let failed = |source| DebError::Read { member: "ar header".into(), source };
        if self.padding {
            // A missing final pad byte is accepted: dpkg-deb writes it, other writers do not.
            self.inner.by_ref().take(1).read_to_end(&mut Vec::new()).map_err(failed)?;
        }
        let mut header = Vec::with_capacity(HEADER_BYTES);
        self.inner.by_ref().take(HEADER_BYTES as u64).read_to_end(&mut header).map_err(failed)?;
        if header.is_empty() {
            return Ok(None);
        }
        if header.len() < HEADER_BYTES || &header[58..60] != b"`\n" {
            return Err(DebError::BadMember { member: String::from_utf8_lossy(&header).trim().to_owned() });
        }
        let field = |range: std::ops::Range<usize>| std::str::from_utf8(&header[range]).map(str::trim).ok();
        let name = field(0..16).map(|name| name.trim_end_matches('/').to_owned());
        let size = field(48..58).and_then(|size| size.parse::<u64>().ok());
        let (Some(name), Some(size)) = (name, size) else {
            return Err(DebError::BadMember {
                member: String::from_utf8_lossy(&header[..16]).trim().to_owned(),
            });
        };
        self.padding = size % 2 == 1;
        Ok(Some(Member { name, size }))
    }

    /// The data of the member just returned by [`Reader::next`].
    pub(super) fn data(&mut self, member: &Member) -> io::Take<&mut R> {
        self.inner.by_ref().take(member.size)
    }
}
