//! Reading `[config]`, `config` of machines, and what refers to them.

use std::collections::{BTreeMap, BTreeSet};

use plumb_guest_proto::template::{self, Part, Reference};
use toml::de::DeTable;

use super::content::{mode, source};
use super::diagnostic::{DefinitionErrors, Report, Span, quoted};
use super::machine::account;
use super::table::{Field, Table};
use super::{Definition, Machine, Volume, value};
use crate::VolumeName;
use crate::config::{ConfigName, Key, Kind, Schema, Value, compiled};

/// Most settings and secrets of an application: more than anyone sets, and each is looked up at every start.
const MAX_KEYS: usize = 200;

/// Most files of a machine that are filled in.
const MAX_FILES: usize = 100;

/// Longest `about`: one line.
const MAX_ABOUT_CHARS: usize = 200;

const EXAMPLE: &str = "log_level = { type = \"string\", default = \"info\" }";

const KEYS: &[&str] = &[
    "about",
    "default",
    "generate",
    "max",
    "max_length",
    "min",
    "one_of",
    "pattern",
    "required",
    "type",
    "unit",
];

/// Types that have a range.
const NUMBERS: &[Kind] = &[Kind::Integer, Kind::Size, Kind::Duration];
/// Types whose values have units.
const QUANTITIES: &[Kind] = &[Kind::Size, Kind::Duration];
/// Types whose values may be seen.
const OPEN: &[Kind] = &[Kind::String, Kind::Integer, Kind::Boolean, Kind::Size, Kind::Duration];

/// What a reference can name.
const KINDS: &[&str] = &[template::CONFIG, template::SECRET, template::SECRET_FILE];

/// A file of a machine that is filled in at boot.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ConfigTemplate {
    /// Absolute path in the machine.
    pub target: String,
    /// The template: its path from the definition's directory.
    pub source: String,
    /// Owning user; `None` is root.
    pub owner: Option<String>,
    /// Owning group; `None` is root.
    pub group: Option<String>,
    /// Permission bits; `None` is for all to read, or for its owner only if a secret is in it.
    pub mode: Option<u32>,
}

pub(super) fn read_schema(root: &Table<'_>, report: &mut Report<'_>) -> Schema {
    let Some(table) = root.get("config").and_then(|field| field.table("[config]", report)) else {
        return Schema::new();
    };
    let fields = table.fields();
    if fields.len() > MAX_KEYS {
        report
            .add(&table.at, format!("{} settings, but an application has at most {MAX_KEYS}", fields.len()));
        return Schema::new();
    }
    let mut schema = Schema::new();
    for field in fields {
        let name = field.parsed_name::<ConfigName>(report);
        // A key that cannot be read is known all the same: what refers to it is not wrong.
        let key = read_key(&field, report).unwrap_or_else(|| empty(Kind::String));
        schema.extend(name.map(|name| (name, key)));
    }
    schema
}

fn empty(kind: Kind) -> Key {
    Key {
        kind,
        about: String::new(),
        default: None,
        required: true,
        min: None,
        max: None,
        one_of: Vec::new(),
        pattern: None,
        max_length: None,
        unit: None,
        generate: false,
    }
}

/// A table, or a value that is type and default at once.
fn read_key(field: &Field<'_>, report: &mut Report<'_>) -> Option<Key> {
    if let Some(default) = field.value() {
        let kind = match default {
            Value::Boolean(_) => Kind::Boolean,
            Value::Integer(_) => Kind::Integer,
            Value::Text(_) => Kind::String,
        };
        return Some(Key { default: Some(default), required: false, ..empty(kind) });
    }
    let table = field.table(EXAMPLE, report)?;
    table.allow(KEYS, report);
    let kind = read_kind(&table, report)?;
    let only = |key: &str, kinds: &[Kind], report: &mut Report<'_>| {
        let field = table.get(key)?;
        if kinds.contains(&kind) {
            return Some(field);
        }
        let known: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
        report
            .add(&field.key, format!("{} has no meaning for a {}", field.what(), kind.as_str()))
            .hint(format!("It is for values of type {}.", known.join(", ")));
        None
    };
    let mut key = empty(kind);
    key.about = table.get("about").and_then(|field| read_about(&field, report)).unwrap_or_default();
    key.min = only("min", NUMBERS, report).and_then(|field| bound(&field, kind, report));
    key.max = only("max", NUMBERS, report).and_then(|field| bound(&field, kind, report));
    if let (Some(min), Some(max)) = (key.min, key.max)
        && min > max
    {
        let (min, max) = (key.bound(min), key.bound(max));
        report.add(&table.at, format!("{}: `min` is {min}, above `max`, which is {max}", field.what()));
    }
    key.unit = only("unit", QUANTITIES, report).and_then(|field| read_unit(&field, kind, report));
    key.max_length = only("max_length", &[Kind::String, Kind::Secret], report)
        .and_then(|field| field.integer(1..=plumb_guest_proto::MAX_SECRET_BYTES as u64, report))
        .and_then(|length| u32::try_from(length).ok());
    key.pattern = only("pattern", &[Kind::String], report).and_then(|field| read_pattern(&field, report));
    if let Some(field) = only("one_of", &[Kind::String, Kind::Integer], report) {
        for item in field.list("[\"info\", \"warn\"]", report) {
            key.one_of.extend(read_value(&item, &key_for_items(&key), report));
        }
    }
    if let Some(field) = only("default", OPEN, report) {
        key.default = read_value(&field, &key, report);
    }
    key.generate =
        only("generate", &[Kind::Secret], report).and_then(|field| field.truth(report)).unwrap_or_default();
    let required = table.get("required").and_then(|field| Some((field.truth(report)?, field.key)));
    if let (Some((true, span)), Some(_)) = (&required, table.get("default")) {
        report
            .add(span, format!("{} is required and has a default", field.what()))
            .hint("What has a default is always set: keep one of both.");
    }
    key.required = required.map_or(table.get("default").is_none(), |(required, _)| required);
    Some(key)
}

fn key_for_items(key: &Key) -> Key {
    Key { one_of: Vec::new(), ..key.clone() }
}

fn read_kind(table: &Table<'_>, report: &mut Report<'_>) -> Option<Kind> {
    const KNOWN: [Kind; 6] =
        [Kind::String, Kind::Integer, Kind::Boolean, Kind::Size, Kind::Duration, Kind::Secret];
    let field = table.required("type", "\"string\"", report)?;
    let text = field.text("\"string\"", report)?;
    let kind = KNOWN.into_iter().find(|kind| kind.as_str() == text);
    if kind.is_none() {
        let names = KNOWN.map(Kind::as_str);
        let found = report.add(&field.span, format!("{}: {} is no type", field.what(), quoted(text)));
        found.suggest(text, names);
        if found.hints.is_empty() {
            found.hint(format!("Known types: {}.", names.join(", ")));
        }
    }
    kind
}

fn read_about(field: &Field<'_>, report: &mut Report<'_>) -> Option<String> {
    let text = field.text("\"how much is logged\"", report)?;
    if text.chars().count() > MAX_ABOUT_CHARS || text.chars().any(char::is_control) {
        report.add(
            &field.span,
            format!("{} is not one line of at most {MAX_ABOUT_CHARS} characters", field.what()),
        );
        return None;
    }
    Some(text.to_owned())
}

fn read_pattern(field: &Field<'_>, report: &mut Report<'_>) -> Option<String> {
    let text = field.text("\"[a-z]+\"", report)?;
    match compiled(text) {
        Ok(_) => Some(text.to_owned()),
        Err(refused) => {
            report.add(&field.span, format!("{} {refused}", field.what()));
            None
        }
    }
}

/// `min` or `max`, written like a value.
fn bound(field: &Field<'_>, kind: Kind, report: &mut Report<'_>) -> Option<i64> {
    match (kind, field.value()) {
        (Kind::Integer, Some(Value::Integer(number))) => Some(number),
        (Kind::Integer, _) => field.mismatch("a whole number", "1", report),
        (_, Some(Value::Text(text))) => match kind.amount(&text) {
            Some(amount) => Some(amount),
            None => {
                let problem = format!("{}: {} is no {}", field.what(), quoted(&text), kind.as_str());
                report.add(&field.span, problem).hint(format!("Write it like `{}`.", kind.example()));
                None
            }
        },
        _ => field.mismatch(&format!("a {}", kind.as_str()), kind.example(), report),
    }
}

fn read_unit(field: &Field<'_>, kind: Kind, report: &mut Report<'_>) -> Option<String> {
    let units = kind.units().iter().map(|(unit, _)| *unit);
    let text = field.text("\"MiB\"", report)?;
    if units.clone().any(|unit| unit == text) {
        return Some(text.to_owned());
    }
    report
        .add(&field.span, format!("{}: {} is no unit of a {}", field.what(), quoted(text), kind.as_str()))
        .hint(format!("Known units: {}.", units.collect::<Vec<_>>().join(", ")));
    None
}

fn read_value(field: &Field<'_>, key: &Key, report: &mut Report<'_>) -> Option<Value> {
    let Some(value) = field.value() else {
        return field.mismatch(&format!("of type {}", key.kind.as_str()), key.kind.example(), report);
    };
    match key.check(&value) {
        Ok(()) => Some(value),
        Err(refused) => {
            report.add(&field.span, format!("{} {refused}", field.what()));
            None
        }
    }
}

/// `config."/etc/app.conf" = "api/app.conf.in"` of a machine.
pub(super) fn read_files(
    table: &Table<'_>,
    volumes: &BTreeMap<VolumeName, (Span, Volume)>,
    report: &mut Report<'_>,
) -> Vec<ConfigTemplate> {
    let Some(all) =
        table.get("config").and_then(|f| f.table("{ \"/etc/app.conf\" = \"app.conf.in\" }", report))
    else {
        return Vec::new();
    };
    let fields = all.fields();
    if fields.len() > MAX_FILES {
        report.add(&all.at, format!("{} files, but a machine has at most {MAX_FILES}", fields.len()));
        return Vec::new();
    }
    let apps: Vec<String> = table
        .get("app")
        .and_then(|field| field.peek_table())
        .map(|table| {
            table.fields().iter().filter_map(|field| value::absolute_path(field.name()).ok()).collect()
        })
        .unwrap_or_default();
    let mut files: Vec<ConfigTemplate> = Vec::new();
    for field in fields {
        let target = match value::absolute_path(field.name()) {
            Ok(target) => target,
            Err(reason) => {
                report.add(&field.key, format!("`config`{}: {reason}", table.inside()));
                continue;
            }
        };
        if apps.contains(&target) || files.iter().any(|other| other.target == target) {
            report.add(&field.key, format!("`{target}` stands twice{}", table.inside()));
        }
        if let Some((name, (_, volume))) =
            volumes.iter().find(|(_, (_, volume))| value::within(&target, &volume.mount))
        {
            report.add(
                &field.key,
                format!("`{target}` would be hidden by the volume `{name}` at `{}`", volume.mount),
            );
        }
        files.extend(read_file(target, &field, report));
    }
    files.sort_by(|a, b| a.target.cmp(&b.target));
    files
}

fn read_file(target: String, field: &Field<'_>, report: &mut Report<'_>) -> Option<ConfigTemplate> {
    if field.is_text() {
        let source = source(field, report)?;
        return Some(ConfigTemplate { target, source, owner: None, group: None, mode: None });
    }
    let table = field.table("{ from = \"app.conf.in\", owner = \"api\" }", report)?;
    table.allow(&["from", "group", "mode", "owner"], report);
    let from = table.required("from", "\"app.conf.in\"", report).and_then(|field| source(&field, report));
    let owner = table.get("owner").and_then(|field| account(&field, report));
    let group = table.get("group").and_then(|field| account(&field, report));
    let mode = table.get("mode").and_then(|field| mode(&field, report));
    Some(ConfigTemplate { target, source: from?, owner, group, mode })
}

/// Checks what the environments of services and tasks refer to. Without `[config]` nothing is a reference but what could
/// be nothing else.
pub(super) fn check_environments(root: &Table<'_>, schema: &Schema, report: &mut Report<'_>) {
    for machine in fields_of(root.get("machine")).iter().filter_map(Field::peek_table) {
        let commands = ["service", "task"].into_iter().flat_map(|key| fields_of(machine.get(key)));
        for command in commands.filter_map(|field| field.peek_table()) {
            for variable in fields_of(command.get("environment")) {
                check_variable(&variable, schema, report);
            }
        }
    }
}

fn check_variable(variable: &Field<'_>, schema: &Schema, report: &mut Report<'_>) {
    for reference in variable.peek_text().into_iter().flat_map(references) {
        let is_foreign = schema.is_empty() && !KINDS.contains(&reference.kind);
        if !is_foreign {
            check(&reference, schema, (&variable.span, &variable.what()), report);
        }
    }
}

fn fields_of<'a>(field: Option<Field<'a>>) -> Vec<Field<'a>> {
    field.and_then(|field| field.peek_table()).map(|table| table.fields()).unwrap_or_default()
}

fn references(text: &str) -> impl Iterator<Item = Reference<'_>> {
    template::parts(text).into_iter().filter_map(|part| match part {
        Part::Reference(reference) => Some(reference),
        Part::Text(_) => None,
    })
}

fn check(reference: &Reference<'_>, schema: &Schema, (span, what): (&Span, &str), report: &mut Report<'_>) {
    let Reference { kind, name, .. } = *reference;
    let written = quoted(&format!("{{{kind}.{name}}}"));
    if !KINDS.contains(&kind) {
        let found = report.add(span, format!("{what}: {written} refers to nothing that there is"));
        found.suggest(kind, KINDS.iter().copied());
        found.hint(format!("`{{{{{kind}.{name}}}` stands for the text itself."));
        return;
    }
    let key = name.parse::<ConfigName>().ok().and_then(|name| schema.get(&name));
    let wants_secret = kind != template::CONFIG;
    match key {
        Some(key) if (key.kind == Kind::Secret) == wants_secret => {}
        Some(_) if wants_secret => {
            report
                .add(span, format!("{what}: {written}, but `{name}` is no secret"))
                .hint(format!("Write `{{config.{name}}}`."));
        }
        Some(_) => {
            report
                .add(span, format!("{what}: {written}, but `{name}` is a secret"))
                .hint(format!("`{{secret-file.{name}}}` is the path of a file that holds it, `{{secret.{name}}}` the secret itself."));
        }
        None => {
            let known = schema.iter().filter(|(_, key)| (key.kind == Kind::Secret) == wants_secret);
            let found = report.add(span, format!("{what}: {written} is not in `[config]`"));
            found.suggest(name, known.map(|(name, _)| name.as_str()));
            if found.hints.is_empty() {
                let kind = if wants_secret { "secret" } else { "string" };
                found.hint(format!("Add `{name} = {{ type = \"{kind}\" }}` to `[config]`."));
            }
        }
    }
}

/// What the template refers to, checked; `file_name` is only for messages.
///
/// # Errors
/// Every reference that names nothing, with its place.
pub fn check_template(
    text: &str,
    file_name: &str,
    schema: &Schema,
) -> Result<BTreeSet<ConfigName>, DefinitionErrors> {
    let mut report = Report::new(text, file_name);
    let mut names = BTreeSet::new();
    for reference in references(text) {
        let span = reference.at..reference.at + reference.length();
        if reference.kind == template::SECRET_FILE {
            report
                .add(&span, "the file of a secret belongs to a service, and a template to none")
                .hint(format!("`{{secret.{}}}` is the secret itself.", reference.name));
            continue;
        }
        check(&reference, schema, (&span, "template"), &mut report);
        names.extend(reference.name.parse::<ConfigName>());
    }
    if report.is_empty() { Ok(names) } else { Err(report.into_errors()) }
}

impl Definition {
    /// Settings and secrets that nothing of the definition refers to, if they are not in `used` either, with their place.
    ///
    /// # Errors
    /// Each of them.
    pub fn refuse_unused(
        &self,
        (text, file_name): (&str, &str),
        used: &BTreeSet<ConfigName>,
    ) -> Result<(), DefinitionErrors> {
        let mut report = Report::new(text, file_name);
        let (table, _) = DeTable::parse_recoverable(text);
        let own: BTreeSet<ConfigName> = self.machines.values().flat_map(Machine::environment_names).collect();
        let root = Table::root(table.get_ref());
        let places = root.get("config").and_then(|field| field.peek_table());
        for name in self.config.keys().filter(|name| !used.contains(name) && !own.contains(name)) {
            let place = places.as_ref().and_then(|table| table.get(name.as_str()));
            report
                .add(&place.map_or(0..0, |field| field.key), format!("`{name}` in `[config]` is used by nothing"))
                .hint(format!(
                    "Refer to it in `environment` of a service or a task, or in a file of `config`, like `{{config.{name}}}`, or remove it."
                ));
        }
        if report.is_empty() { Ok(()) } else { Err(report.into_errors()) }
    }
}

impl Machine {
    /// What the environments of its services and tasks refer to.
    #[must_use]
    pub fn environment_names(&self) -> BTreeSet<ConfigName> {
        let services = self.services.values().map(|service| &service.settings);
        let texts = services.chain(self.tasks.values().map(|task| &task.settings)).flat_map(BTreeMap::values);
        texts.flat_map(|text| references(text)).filter_map(|reference| reference.name.parse().ok()).collect()
    }
}

/// Names of the secrets that whoever has these variables gets as files.
#[must_use]
pub fn secret_files(settings: &BTreeMap<String, String>) -> BTreeSet<String> {
    let all = settings.values().flat_map(|text| references(text));
    all.filter(|reference| reference.kind == template::SECRET_FILE)
        .map(|reference| reference.name.to_owned())
        .collect()
}

/// Whether a template holds a secret.
#[must_use]
pub fn has_secret(text: &str) -> bool {
    references(text).any(|reference| reference.kind == template::SECRET)
}

/// Tells variables that refer to something from those that are text, and takes the braces away that keep a text from being
/// a reference.
pub(super) fn split(machine: &mut Machine) {
    let services = machine.services.values_mut().map(|one| (&mut one.environment, &mut one.settings));
    let tasks = machine.tasks.values_mut().map(|one| (&mut one.environment, &mut one.settings));
    for (environment, settings) in services.chain(tasks) {
        let (referring, plain): (BTreeMap<_, _>, _) =
            std::mem::take(environment).into_iter().partition(|(_, text)| references(text).next().is_some());
        let unescaped = |text: String| template::fill(&text, &|_| None).map_or(text.clone(), |filled| filled);
        *environment = plain.into_iter().map(|(name, text)| (name, unescaped(text))).collect();
        *settings = referring;
    }
}
