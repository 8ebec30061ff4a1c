//! Volumes: which exist, how large, and whether they hold a file system.

use plumb_model::{DeploymentName, InstanceName, VolumeName};
use rusqlite::params;

use crate::{State, StateError};

/// One volume of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeRecord {
    /// Instance it belongs to.
    pub instance: InstanceName,
    /// Name.
    pub volume: VolumeName,
    /// Size of the disk in bytes.
    pub size_bytes: u64,
    /// A guest reported it formatted and mounted once.
    pub initialized: bool,
}

impl State {
    /// All volumes of a deployment.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn volumes(&self, name: &DeploymentName) -> Result<Vec<VolumeRecord>, StateError> {
        let read = || -> rusqlite::Result<Vec<(String, String, u64, bool)>> {
            let mut statement = self.connection.prepare(
                "SELECT instance, volume, size_bytes, initialized FROM volume WHERE deployment = ?1
                 ORDER BY instance, volume",
            )?;
            let rows = statement
                .query_map([name.as_str()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
            rows.collect()
        };
        let rows = read().map_err(self.failed("read"))?;
        rows.into_iter()
            .map(|(instance, volume, size_bytes, initialized)| {
                let instance = instance.parse().map_err(|_| self.damaged("volume", name))?;
                let volume = volume.parse().map_err(|_| self.damaged("volume", name))?;
                Ok(VolumeRecord { instance, volume, size_bytes, initialized })
            })
            .collect()
    }

    /// Records a volume, or that it grew. A smaller size than recorded changes nothing.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn put_volume(
        &mut self,
        name: &DeploymentName,
        instance: &InstanceName,
        volume: &VolumeName,
        size_bytes: u64,
    ) -> Result<(), StateError> {
        self.connection
            .execute(
                "INSERT INTO volume (deployment, instance, volume, size_bytes) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (deployment, instance, volume) DO UPDATE SET size_bytes = max(size_bytes, ?4)",
                params![name.as_str(), instance.as_str(), volume.as_str(), size_bytes],
            )
            .map_err(self.failed("write"))?;
        Ok(())
    }

    /// Records that a guest has formatted and mounted the volume: from now on it is never formatted again.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn set_volume_initialized(
        &mut self,
        name: &DeploymentName,
        instance: &InstanceName,
        volume: &VolumeName,
    ) -> Result<(), StateError> {
        self.connection
            .execute(
                "UPDATE volume SET initialized = 1 WHERE deployment = ?1 AND instance = ?2 AND volume = ?3",
                params![name.as_str(), instance.as_str(), volume.as_str()],
            )
            .map_err(self.failed("write"))?;
        Ok(())
    }

    /// Forgets all volumes of a deployment, after their files are gone.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn forget_volumes(&mut self, name: &DeploymentName) -> Result<(), StateError> {
        self.connection
            .execute("DELETE FROM volume WHERE deployment = ?1", [name.as_str()])
            .map_err(self.failed("write"))?;
        Ok(())
    }
}
