-- Runs at every start.
CREATE DATABASE IF NOT EXISTS wordpress CHARACTER SET utf8mb4;
CREATE USER IF NOT EXISTS wordpress@'%';
ALTER USER wordpress@'%' IDENTIFIED BY '{secret.db_password}';
GRANT ALL ON wordpress.* TO wordpress@'%';
