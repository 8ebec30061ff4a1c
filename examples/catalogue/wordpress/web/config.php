<?php
define('DB_NAME', 'wordpress');
define('DB_USER', 'wordpress');
define('DB_PASSWORD', '{secret.db_password}');
define('DB_HOST', 'db');
define('DB_CHARSET', 'utf8mb4');

// Themes and plugins come with the packages of the image; only `uploads` in it is a volume.
define('WP_CONTENT_DIR', '/usr/share/wordpress/wp-content');

// What is installed is what the image holds: a new plugin or version is a new release.
define('DISALLOW_FILE_MODS', true);
define('AUTOMATIC_UPDATER_DISABLED', true);
define('WP_HTTP_BLOCK_EXTERNAL', true);
