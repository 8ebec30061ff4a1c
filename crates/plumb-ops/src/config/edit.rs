//! All of what is set as a text that a person edits: TOML, in which a comment stands for what is not set.
//!
//! ```text
//!  $PLUMB_HOME/edit/DEPLOYMENT.N.toml  0600, while somebody edits configuration N; stays if what was written cannot be set
//! ```
//! It is never held against another configuration than the one it was made from: that would take back what others set since.
//! Secrets are never in it.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use plumb_model::DeploymentName;
use plumb_model::config::Kind;
use plumb_store::LockGuard;

use super::ConfigError;
use super::change::{Apply, ConfigChange, ConfigOutcome, read_settings};
use super::view::{ConfigView, SettingOrigin, SettingView};
use crate::Plumb;
use crate::error::{OpsError, io};

/// A text that somebody edits, and what it was made from.
#[derive(Debug)]
pub struct Sheet {
    /// Where it is.
    pub path: PathBuf,
    /// It is what an edit before this one left.
    pub continued: bool,
    /// What edits of older configurations left, which is not touched.
    pub older: Vec<PathBuf>,
    view: ConfigView,
    _guard: LockGuard,
}

impl Plumb<'_> {
    /// Writes what is set of a deployment to a file to be edited, unless a failed edit has left one. Nobody else edits
    /// meanwhile.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn config_sheet(&self, name: &DeploymentName) -> Result<Sheet, OpsError> {
        let view = self.config(name, None)?;
        let guard = self.store.lock(&format!("edit-{name}"))?;
        let folder = self.home.root().join("edit");
        let path = folder.join(format!("{name}.{}.toml", view.configuration.unwrap_or(0)));
        let continued = path.exists();
        if !continued {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true).mode(0o700).create(&folder).map_err(io("make", &folder))?;
            let mut options = fs::OpenOptions::new();
            let file = options.write(true).create_new(true).mode(0o600).open(&path);
            let written = file.and_then(|mut file| file.write_all(text(&view).as_bytes()));
            written.map_err(io("write", &path))?;
        }
        let older = left(&folder, name).map_err(io("read", &folder))?.into_iter().filter(|one| *one != path);
        Ok(Sheet { older: older.collect(), path, continued, view, _guard: guard })
    }

    /// Sets what somebody wrote; `None` if that is what was set. The text is kept if it cannot be set.
    ///
    /// # Errors
    /// [`ConfigError::Edit`] with what is wrong.
    pub fn set_sheet(&self, sheet: Sheet, apply: Apply) -> Result<Option<ConfigOutcome>, OpsError> {
        let name = &sheet.view.deployment;
        let changed = read_change(&sheet.path, &sheet.view).and_then(|change| {
            if change == ConfigChange::default() {
                return Ok(None);
            }
            self.configure(name, &change, apply).map(Some)
        });
        let outcome = changed.map_err(|source| ConfigError::Edit {
            deployment: name.clone(),
            path: sheet.path.clone(),
            source: Box::new(source),
        })?;
        fs::remove_file(&sheet.path).map_err(io("remove", &sheet.path))?;
        Ok(outcome)
    }
}

/// All texts that somebody edits, or left.
fn left(folder: &Path, name: &DeploymentName) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let file = path.file_name().and_then(|file| file.to_str()).unwrap_or_default();
        let number = file.strip_prefix(name.as_str()).and_then(|rest| rest.strip_prefix('.'));
        if number.and_then(|rest| rest.strip_suffix(".toml")).is_some_and(|rest| rest.parse::<u64>().is_ok())
        {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// What differs between the text and what is set.
fn read_change(path: &Path, view: &ConfigView) -> Result<ConfigChange, OpsError> {
    let written = read_settings(path)?;
    let before =
        |setting: &&SettingView| setting.origin == SettingOrigin::Set && setting.kind != Kind::Secret;
    let mut change = ConfigChange::default();
    for setting in view.settings.iter().filter(before) {
        if written.iter().all(|(name, _)| *name != setting.name) {
            change.unset.push(setting.name.clone());
        }
    }
    for (name, text) in written {
        let same = |setting: &SettingView| setting.name == name && setting.value.as_ref() == Some(&text);
        if !view.settings.iter().filter(before).any(same) {
            change.set.push((name, text));
        }
    }
    Ok(change)
}

/// The text that somebody gets to edit.
fn text(view: &ConfigView) -> String {
    let number = view.configuration.map_or_else(String::new, |number| format!(", configuration {number}"));
    let mut text = format!(
        "# Settings of {} ({}{number}). What you save is set; `#` before a line takes it back to its default.\n\
         # Secrets are not here: `plumb secret set {} NAME`.\n",
        view.deployment, view.release, view.deployment
    );
    for setting in view.settings.iter().filter(|setting| setting.kind != Kind::Secret) {
        text.push('\n');
        for comment in [&setting.about, &setting.allowed].into_iter().filter(|comment| !comment.is_empty()) {
            let _ = writeln!(text, "# {}", comment.replace(char::is_control, " "));
        }
        let value = setting.value.as_deref().map_or_else(String::new, |value| written(setting.kind, value));
        let _ = match setting.origin {
            SettingOrigin::Set => writeln!(text, "{} = {value}", setting.name),
            SettingOrigin::Unused => {
                writeln!(text, "# {} = {value} is set, and {} does not know it", setting.name, view.release)
            }
            SettingOrigin::Default | SettingOrigin::Missing | SettingOrigin::Unset => {
                writeln!(text, "#{} = {value}", setting.name)
            }
        };
    }
    text
}

/// A value in TOML, on one line: escapes of JSON's strings are TOML's, too, and only DEL needs one more.
fn written(kind: Kind, value: &str) -> String {
    match kind {
        Kind::Integer | Kind::Boolean => value.to_owned(),
        Kind::String | Kind::Size | Kind::Duration | Kind::Secret => {
            serde_json::Value::from(value).to_string().replace('\u{7f}', "\\u007f")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(name: &str, kind: Kind, value: Option<&str>, origin: SettingOrigin) -> SettingView {
        SettingView {
            name: name.parse().expect("a name"),
            kind,
            value: value.map(str::to_owned),
            origin,
            about: format!("about {name}"),
            allowed: kind.as_str().to_owned(),
            used_by: Vec::new(),
        }
    }

    #[test]
    fn what_others_left_is_told_and_not_that_of_another_deployment() -> Result<(), Box<dyn std::error::Error>>
    {
        let folder = tempfile::tempdir()?;
        for file in
            ["shop.3.toml", "shop.2.toml", "shop-test.2.toml", "shop.toml", "shop.x.toml", "shop.3.toml~"]
        {
            fs::write(folder.path().join(file), "")?;
        }
        let wanted = ["shop.2.toml", "shop.3.toml"].map(|file| folder.path().join(file));
        assert_eq!(left(folder.path(), &"shop".parse()?)?, wanted);
        Ok(())
    }

    #[test]
    fn a_text_says_what_is_set_and_is_read_back() -> Result<(), Box<dyn std::error::Error>> {
        let view = ConfigView {
            deployment: "shop".parse()?,
            release: "shop@2".parse()?,
            configuration: Some(3),
            running: Some(3),
            settings: vec![
                setting("cache", Kind::Size, Some("64MiB"), SettingOrigin::Set),
                setting("level", Kind::String, Some("in\"fo\nx"), SettingOrigin::Set),
                setting("owner", Kind::String, None, SettingOrigin::Missing),
                setting("password", Kind::Secret, None, SettingOrigin::Set),
                setting("workers", Kind::Integer, Some("2"), SettingOrigin::Default),
                setting("old", Kind::String, Some("x"), SettingOrigin::Unused),
            ],
        };
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("shop.toml");
        let sheet = text(&view);
        assert!(!sheet.contains("password"), "{sheet}");
        assert!(sheet.contains("# about workers\n# integer\n#workers = 2\n"), "{sheet}");
        fs::write(&path, &sheet)?;
        assert_eq!(read_change(&path, &view)?, ConfigChange::default());
        let edited = sheet.replace("cache = \"64MiB\"", "").replace("#workers = 2", "workers = 4");
        fs::write(&path, edited)?;
        let change = read_change(&path, &view)?;
        assert_eq!(change.set, [("workers".parse()?, "4".to_owned())]);
        assert_eq!(change.unset, ["cache".parse()?]);
        Ok(())
    }
}
