-- Runs at every start.
CREATE DATABASE IF NOT EXISTS app CHARACTER SET utf8mb4;
CREATE USER IF NOT EXISTS app@'%' IDENTIFIED BY 'change-me';
GRANT ALL ON app.* TO app@'%';
