<%@ page contentType="text/plain" %><%
String name = request.getParameter("name");
Integer visits = (Integer) session.getAttribute("visits");
visits = visits == null ? 1 : visits + 1;
session.setAttribute("visits", visits);
%>Hello <%= name == null ? "you" : name.replaceAll("[^A-Za-z0-9 ]", "") %>, visit <%= visits %>
