//! `plumb init`.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::args::{Global, Init};
use crate::output::{err, out};
use crate::render;

pub(super) fn run(arguments: &Init, global: &Global) -> ExitCode {
    let folder = arguments.folder.clone().unwrap_or_else(|| PathBuf::from(&arguments.template));
    match plumb_ops::init(&arguments.template, &folder) {
        Ok(files) if global.json => render::json(&serde_json::json!({ "folder": folder, "files": files })),
        Ok(files) => {
            for file in files {
                out!("{}", folder.join(file).display());
            }
            err!("Next: cd {} && plumb up", folder.display());
        }
        Err(error) => return render::failure(&error, global.json),
    }
    ExitCode::SUCCESS
}
