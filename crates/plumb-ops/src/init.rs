//! `init`: a folder to start from.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use crate::error::{OpsError, io};
use crate::template::templates;

/// Writes the template's files into `folder`, which must not exist or be empty. Returns their names.
///
/// # Errors
/// [`OpsError`].
pub fn init(template: &str, folder: &Path) -> Result<Vec<String>, OpsError> {
    let known = templates();
    let template =
        known.iter().find(|candidate| candidate.name == template).ok_or_else(|| OpsError::NoTemplate {
            name: template.to_owned(),
            known: known.iter().map(|template| template.name.to_owned()).collect(),
        })?;
    let taken = fs::read_dir(folder).map(|mut entries| entries.next().is_some());
    if taken.unwrap_or_else(|_| folder.exists()) {
        return Err(OpsError::Exists { path: folder.to_owned() });
    }
    let mut written = Vec::new();
    for (name, text) in template.files {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(io("make", parent))?;
        }
        let mut file = fs::File::create_new(&path).map_err(io("write", &path))?;
        file.write_all(text.as_bytes()).map_err(io("write", &path))?;
        if text.starts_with("#!") {
            let executable = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
            fs::set_permissions(&path, executable).map_err(io("write", &path))?;
        }
        written.push((*name).to_owned());
    }
    Ok(written)
}
