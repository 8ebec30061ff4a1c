//! `plumb sbom`.

use plumb_ops::{BillForm, Compared, OpsError};

use super::Session;
use crate::args::{Form, Sbom};
use crate::render;

pub(super) fn run(session: &Session<'_>, arguments: &Sbom) -> Result<(), OpsError> {
    let form = match arguments.form {
        Form::Cyclonedx => BillForm::CycloneDx,
        Form::Spdx => BillForm::Spdx,
    };
    let bill = session.plumb.sbom(&Compared::parse(&arguments.what)?, form)?;
    session.live.clear();
    render::json(&bill);
    Ok(())
}
