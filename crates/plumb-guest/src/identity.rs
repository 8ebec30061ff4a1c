//! Who this instance is: the files that the image links to from /etc, and the host name.

use plumb_guest_proto::InstanceSpec;

use crate::error::Error;
use crate::file;

/// Sets the host name and writes `/run/plumb/{hosts,hostname,resolv.conf,machine-id}`.
///
/// # Errors
/// [`Error::File`], [`Error::System`].
pub fn write(instance: &InstanceSpec) -> Result<(), Error> {
    rustix::system::sethostname(instance.instance.as_bytes())
        .map_err(|errno| Error::system("set the host name")(errno.into()))?;
    file::write("/run/plumb/hosts", &hosts(instance))?;
    file::write("/run/plumb/hostname", &format!("{}\n", instance.instance))?;
    // Peers come from the hosts file; a resolver that finds no server here asks 127.0.0.1 and is refused at once.
    file::write("/run/plumb/resolv.conf", "# no name server: peers are in /etc/hosts\n")?;
    let path = "/proc/sys/kernel/random/uuid";
    let uuid = file::read_text(path).map_err(Error::file("read", path))?;
    file::write("/run/plumb/machine-id", &format!("{}\n", uuid.replace('-', "")))
}

/// hosts(5): localhost, this instance if no peer line names it, the peers.
fn hosts(instance: &InstanceSpec) -> String {
    let mut text = String::from("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n");
    let own = &instance.instance;
    if !instance.peers.iter().any(|peer| peer.names.contains(own)) {
        let address = instance.interfaces.first().map_or("127.0.1.1".to_owned(), |i| i.address.to_string());
        text.push_str(&format!("{address} {own}\n"));
    }
    for peer in &instance.peers {
        text.push_str(&format!("{} {}\n", peer.address, peer.names.join(" ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use plumb_guest_proto::Peer;

    use super::*;

    #[test]
    fn hosts_file() {
        let mut instance = InstanceSpec {
            format: 1,
            deployment: "shop".into(),
            instance: "web-1".into(),
            machine: "web".into(),
            release: "shop@1".into(),
            generation: 1,
            interfaces: vec![],
            peers: vec![Peer { names: vec!["db-1".into(), "db".into()], address: [10, 0, 0, 2].into() }],
            volumes: vec![],
            idle: false,
            config: std::collections::BTreeMap::new(),
        };
        let start = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n";
        assert_eq!(hosts(&instance), format!("{start}127.0.1.1 web-1\n10.0.0.2 db-1 db\n"));
        instance.peers.push(Peer { names: vec!["web-1".into()], address: [10, 0, 0, 3].into() });
        assert_eq!(hosts(&instance), format!("{start}10.0.0.2 db-1 db\n10.0.0.3 web-1\n"));
    }
}
