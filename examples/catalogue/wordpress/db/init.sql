-- Runs at every start.
CREATE DATABASE IF NOT EXISTS wordpress CHARACTER SET utf8mb4;
CREATE USER IF NOT EXISTS wordpress@'%' IDENTIFIED BY 'change-me';
GRANT ALL ON wordpress.* TO wordpress@'%';
