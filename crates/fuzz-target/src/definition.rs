//! The definition: a file from somebody else's repository.

use plumb_model::definition::Definition;

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Definition::parse(text, "plumb.toml") {
        Ok(definition) => {
            let again = Definition::parse(text, "other.toml").expect("as before");
            assert_eq!(definition, again);
        }
        // Showing errors cuts lines out of the text.
        Err(errors) => assert!(!errors.to_string().is_empty()),
    }
}
